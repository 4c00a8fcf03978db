"""The first and last thing that every request meets: its id, its log line, its count, and headers for browsers."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject, empty

from catalogmatch.operations import metrics
from core.request_id import request_id

logger = logging.getLogger(__name__)

_VALID_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
# Asked every few seconds by machines: counted, not logged.
_QUIET = ("/healthz", "/readyz", "/metrics", "/static/")
# Nothing here needs a sensor, and no page of ours should be asked for one.
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class RequestLogMiddleware:
    """Gives each request an id (``X-Request-ID``, the client's own where it is sane), logs it and counts it.

    The line names the path without its query, which may hold what a person searched for, and no body or header.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        theirs = request.headers.get("X-Request-ID", "")
        traced = theirs if _VALID_ID.fullmatch(theirs) else uuid.uuid4().hex
        token = request_id.set(traced)
        started = time.perf_counter()
        try:
            response = self.get_response(request)
            response["X-Request-ID"] = traced
            response["Permissions-Policy"] = PERMISSIONS_POLICY
            self._record(request, response.status_code, time.perf_counter() - started)
        finally:
            request_id.reset(token)
        return response

    @staticmethod
    def _record(request: HttpRequest, status: int, seconds: float) -> None:
        match = request.resolver_match
        # Neither paths nor whatever a client calls a method: each new label stays in somebody's memory.
        method = request.method if request.method in _METHODS else "other"
        metrics.count_request(method, match.route if match else "unmatched", status, seconds)
        if request.path.startswith(_QUIET):
            return
        logger.info(
            "%s %s %s",
            request.method,
            request.path,
            status,
            extra={
                "method": request.method,
                "path": request.path,
                "status": status,
                "milliseconds": round(1000 * seconds, 1),
                "user": _user_of(request),
            },
        )


def _user_of(request: HttpRequest) -> int | None:
    """The id of who asked, where somebody looked that up already; a log line is not worth a query."""
    user = request.__dict__.get("user")
    if user is None or (isinstance(user, SimpleLazyObject) and user._wrapped is empty):
        return None
    return user.pk  # type: ignore[no-any-return]
