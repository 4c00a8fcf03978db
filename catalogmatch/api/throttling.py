"""Rate limits for users and addresses. They work without Redis too."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from django.core.cache import caches
from rest_framework.throttling import SimpleRateThrottle, UserRateThrottle

from core import circuit_breaker

if TYPE_CHECKING:
    from django.http import HttpRequest

    # rest_framework.views imports this module through the settings, so importing it here would be a circle.
    from rest_framework.request import Request
    from rest_framework.views import APIView


class OutageTolerantThrottle(SimpleRateThrottle):
    """A throttle for which each process counts by itself while Redis does not respond."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            with circuit_breaker.redis_call():
                return super().allow_request(request, view)
        except circuit_breaker.BrokerUnavailableError:
            self.cache = caches["process"]
            return super().allow_request(request, view)


class LoginThrottle(OutageTolerantThrottle):
    """Limit attempts to sign in from one address."""

    scope = "login"

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}  # type: ignore[arg-type]


class AccountThrottle(OutageTolerantThrottle):
    """Limit attempts to sign in as one user from all addresses together."""

    scope = "account"

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str:
        name = request.POST.get("username", "").strip().casefold()
        # Hashed, because not every cache accepts any text as a key.
        return self.cache_format % {"scope": self.scope, "ident": hashlib.sha256(name.encode()).hexdigest()}


class ApiThrottle(OutageTolerantThrottle, UserRateThrottle):
    """Limit API requests of one user."""
