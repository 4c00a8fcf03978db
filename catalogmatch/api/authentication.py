"""Token authentication of API requests: ``Authorization: Token …`` or ``Authorization: Bearer …``."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext as _
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as RestSessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from catalogmatch.accounts.models import Token
from catalogmatch.accounts.passwords import must_change
from catalogmatch.accounts.tokens import find_token, record_use, user_of_token

SCHEMES = (b"token", b"bearer")


class TokenAuthentication(BaseAuthentication):
    """Authenticate by an API token. The user is limited to the token's scope."""

    def authenticate(self, request: Request) -> tuple[User, Token] | None:
        # Servers decode headers as Latin-1. Other characters reach this code only in tests.
        header = str(request.META.get("HTTP_AUTHORIZATION", "")).encode("latin-1", "replace")
        scheme, _space, key = header.strip().partition(b" ")
        if scheme.lower() not in SCHEMES:
            return None
        token = find_token(key.strip())
        if token is None:
            raise AuthenticationFailed(_("This token is not valid. It may have expired or been revoked."))
        if not token.user.is_active:
            raise AuthenticationFailed(_("The user of this token is deactivated."))
        record_use(token)
        return user_of_token(token), token

    def authenticate_header(self, request: Request) -> str:
        return "Token"


class SessionAuthentication(RestSessionAuthentication):
    """Authenticate by a session of the admin, unless its user must choose another password first."""

    def authenticate(self, request: Request) -> Any:
        return None if must_change(request._request) else super().authenticate(request)


class SessionSchemeOfPages(SessionScheme):  # type: ignore[no-untyped-call]
    target_class = "catalogmatch.api.authentication.SessionAuthentication"


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The token authentication in the OpenAPI document: either word before the token works."""

    target_class = "catalogmatch.api.authentication.TokenAuthentication"
    name = ["bearerToken", "apiToken"]  # drf-spectacular takes a list too

    def get_security_definition(self, auto_schema: Any) -> Any:
        return [
            {"type": "http", "scheme": "bearer"},
            {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                "description": "The word `Token`, a space and the token.",
            },
        ]
