"""Who sends a request of the API: the user of the token in its header."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication as KnoxAuthentication
from knox.models import AuthToken


class TokenAuthentication(KnoxAuthentication):  # type: ignore[misc]  # knox has no types
    """Knox's, without its look through all other tokens of the user for expired ones, at every request."""

    def _cleanup_token(self, auth_token: AuthToken) -> bool:
        """Whether the token has expired; it is deleted then."""
        expired = auth_token.expiry is not None and auth_token.expiry < timezone.now()
        if expired:
            auth_token.delete()
        return expired


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """The same in the OpenAPI document."""

    target_class = "catalogmatch.api.authentication.TokenAuthentication"
