"""The outermost middleware: request id, log line, metrics and the Permissions-Policy header."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject, empty

from catalogmatch.operations import metrics
from core.request_id import is_valid, request_id

logger = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
# Polled every few seconds, so counted but not logged.
_UNLOGGED_PATHS = (*settings.PROBE_PATHS, "/static/")
# No page needs a sensor.
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class RequestLogMiddleware:
    """Give each request an id, log it and count it.

    A valid ``X-Request-ID`` of the client is used as the id. The log line has the path but no query string, body or
    header, because these may contain personal data.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given_id = request.headers.get("X-Request-ID", "")
        current_id = given_id if is_valid(given_id) else uuid.uuid4().hex
        token = request_id.set(current_id)
        start = time.perf_counter()
        try:
            response = self.get_response(request)
            response["X-Request-ID"] = current_id
            response["Permissions-Policy"] = PERMISSIONS_POLICY
            self._record(request, response.status_code, time.perf_counter() - start)
        finally:
            request_id.reset(token)
        return response

    @staticmethod
    def _record(request: HttpRequest, status: int, seconds: float) -> None:
        match = request.resolver_match
        # No paths and no invented methods as labels: each new value stays in Prometheus's memory.
        method = request.method if request.method in _METHODS else "other"
        metrics.count_request(method, match.route if match else "unmatched", status, seconds)
        if request.path.startswith(_UNLOGGED_PATHS):
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
    """Return the user's id if the request has loaded the user already. A log line is not worth a query."""
    user = request.__dict__.get("user")
    if user is None or (isinstance(user, SimpleLazyObject) and user._wrapped is empty):
        return None
    return user.pk  # type: ignore[no-any-return]
