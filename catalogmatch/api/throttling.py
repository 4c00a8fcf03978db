"""How often one user or address may call; keeps counting when the shared cache is away."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from django.core.cache import caches
from rest_framework.throttling import SimpleRateThrottle, UserRateThrottle

from core import circuit_breaker

if TYPE_CHECKING:
    from django.http import HttpRequest

    # The views' module itself looks up its throttles here.
    from rest_framework.request import Request
    from rest_framework.views import APIView


class OutageTolerantThrottle(SimpleRateThrottle):
    """While Redis does not answer, each process counts for itself: an upload is not refused for want of a counter."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            with circuit_breaker.redis_call():
                return super().allow_request(request, view)
        except circuit_breaker.BrokerUnavailableError:
            self.cache = caches["process"]
            return super().allow_request(request, view)


class LoginThrottle(OutageTolerantThrottle):
    """Attempts to sign in from one address, right or wrong."""

    scope = "login"

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}  # type: ignore[arg-type]


class AccountThrottle(OutageTolerantThrottle):
    """Attempts to sign in as one user, from wherever: many addresses are not as many chances."""

    scope = "account"

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str:
        name = request.POST.get("username", "").strip().casefold()
        # Hashed, since a name of somebody's choice is no key that every cache takes.
        return self.cache_format % {"scope": self.scope, "ident": hashlib.sha256(name.encode()).hexdigest()}


class ApiThrottle(OutageTolerantThrottle, UserRateThrottle):
    """The API's limit for one user."""
