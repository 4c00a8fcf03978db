"""Rate limits for users and addresses. They work without Redis too."""

from __future__ import annotations

import hashlib
import math
import time
import unicodedata
from typing import TYPE_CHECKING, Any

from django.contrib.auth.forms import UsernameField
from django.core.cache import caches
from rest_framework.throttling import SimpleRateThrottle

from catalogmatch.api.addresses import network_of
from core import circuit_breaker

if TYPE_CHECKING:
    from django.http import HttpRequest

    # rest_framework.views imports this module through the settings, so importing it here would be a circle.
    from rest_framework.request import Request
    from rest_framework.views import APIView


MAX_NAME_LENGTH = 1_000
MAX_CLOCK_DIFFERENCE_SECONDS = 60  # between the machines that share the cache


class _History:
    """The part of a cache that a throttle uses. A value that no throttle has written counts as missing."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def get(self, key: str, default: list[float]) -> list[float]:
        value = caches[self.alias].get(key)
        # A set of types, because a busy client has thousands of moments and each request checks them.
        is_history = isinstance(value, list) and set(map(type, value)) <= {int, float}
        # After the clock was set back, older moments lie in the future and would count for as long as it was set back.
        return value if is_history and max(value, default=0) < time.time() + MAX_CLOCK_DIFFERENCE_SECONDS else default

    def set(self, key: str, value: list[float], seconds: float) -> None:
        caches[self.alias].set(key, value, seconds)


class OutageTolerantThrottle(SimpleRateThrottle):
    """A throttle for which each process counts by itself while Redis does not respond."""

    cache: Any = _History("default")

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            with circuit_breaker.redis_call():
                return super().allow_request(request, view)
        except circuit_breaker.BrokerUnavailableError:
            self.cache = _History("process")
            return super().allow_request(request, view)


class AddressThrottle(OutageTolerantThrottle):
    """Limit an address. IPv6 counts by /64 (one client), and by /48 (one site) at ten times the rate."""

    networks = ((64, 1), (48, 10))  # bits of the prefix, and the multiple of the rate
    num_requests: int | None

    def __init__(self) -> None:
        super().__init__()
        self.allowed = self.num_requests
        self.prefix = 64

    def allow_request(self, request: Request, view: APIView) -> bool:
        rate = self.allowed
        for prefix, factor in self.networks:
            self.prefix = prefix
            self.num_requests = None if rate is None else rate * factor
            if not super().allow_request(request, view):
                return False
        return True

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str | None:
        network = network_of(self.get_ident(request), self.prefix)  # type: ignore[arg-type]
        if network is None:
            return None
        # Hashed, because a text that is no address may be long or contain anything.
        ident = hashlib.sha256(network.encode("utf-8", "surrogatepass")).hexdigest()
        return self.cache_format % {"scope": f"{self.scope}{self.prefix}", "ident": ident}


class LoginThrottle(AddressThrottle):
    """Limit attempts to give a password from one address."""

    scope = "login"


class AccountThrottle(OutageTolerantThrottle):
    """Limit attempts to give the password of one user from all addresses together."""

    scope = "account"

    def __init__(self, username: str) -> None:
        super().__init__()
        self.username = username

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str:
        # Hashed, because not every cache accepts any text as a key.
        ident = hashlib.sha256(account_name(self.username).encode("utf-8", "surrogatepass")).hexdigest()
        return self.cache_format % {"scope": self.scope, "ident": ident}


def wait_for_password(request: HttpRequest, username: str) -> int:
    """Count an attempt to give this user's password. Return the seconds to wait after too many, or 0."""
    # The address comes first: its rejected attempts must not lock out the user whose name they carry.
    for throttle in (LoginThrottle(), AccountThrottle(username)):
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # it needs no view
            return max(1, math.ceil(throttle.wait() or 60))
    return 0


class ResetThrottle(AccountThrottle):
    """Limit the mails about a forgotten password to one address, known or not."""

    scope = "reset"


def wait_for_reset(request: HttpRequest, email: str) -> int:
    """Count a request for a mail about a forgotten password. Return the seconds to wait after too many, or 0."""
    for throttle in (LoginThrottle(), ResetThrottle(email)):
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # it needs no view
            return max(1, math.ceil(throttle.wait() or 60))
    return 0


def account_name(name: str) -> str:
    """Return one name for all spellings that the sign-in takes for the same user, and for any case."""
    if len(name) > MAX_NAME_LENGTH:  # the sign-in refuses it, and normalising a megabyte takes seconds
        return name
    return unicodedata.normalize("NFKC", (UsernameField().to_python(name) or "").casefold()).strip()


class ApiThrottle(AddressThrottle):
    """Limit API requests of one user, or of one address for requests without a user."""

    scope = "user"

    def get_cache_key(self, request: Request | HttpRequest, view: APIView | None) -> str | None:
        if not request.user.is_authenticated:
            return super().get_cache_key(request, view)
        # A user is counted once, not by network.
        return self.cache_format % {"scope": self.scope, "ident": request.user.pk} if self.prefix == 64 else None
