"""Bounds a request by what it announces, before anything of its body is read."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from catalogmatch.api.errors import problem_response


class RequestLimitsMiddleware:
    """Refuses bodies that are too long, or that do not say how long they are. Files in them are bounded as they come.

    Stands after authentication: who is not signed in sends no files, except to the API, which reads nothing
    before it knows who asks.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._refusal(request) or self.get_response(request)

    @staticmethod
    def _refusal(request: HttpRequest) -> HttpResponse | None:
        if "HTTP_TRANSFER_ENCODING" in request.META:
            # Django reads as many bytes as are announced, and so nothing of such a body.
            return problem_response(411, "length_required", "Send the body with its Content-Length, not in chunks.")
        length = int(request.META.get("CONTENT_LENGTH") or 0)  # the web server has checked that it is a number
        if length > settings.MAX_REQUEST_BYTES:
            return _too_large(settings.MAX_REQUEST_BYTES)
        if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE and not _may_hold_files(request):
            return _too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        return None


def _may_hold_files(request: HttpRequest) -> bool:
    signed_in = request.path.startswith("/api/") or request.user.is_authenticated
    return request.content_type == "multipart/form-data" and signed_in


def _too_large(limit: int) -> HttpResponse:
    detail = f"The request is larger than {limit / 2**20:g} MiB. Send fewer pictures at once."
    return problem_response(413, "image_too_large", detail)
