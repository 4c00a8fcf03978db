"""Token authentication of API requests."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication as KnoxAuthentication
from knox.models import AuthToken


class TokenAuthentication(KnoxAuthentication):  # type: ignore[misc]  # knox has no types
    """Knox's authentication, without its search for expired tokens of the user in every request."""

    def _cleanup_token(self, auth_token: AuthToken) -> bool:
        """Return whether the token has expired, and delete it if so."""
        expired = auth_token.expiry is not None and auth_token.expiry < timezone.now()
        if expired:
            auth_token.delete()
        return expired


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """The token authentication in the OpenAPI document."""

    target_class = "catalogmatch.api.authentication.TokenAuthentication"
