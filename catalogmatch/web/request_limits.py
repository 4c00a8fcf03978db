"""Limits on the announced size and charset of a request, checked before its body is read."""

from __future__ import annotations

import codecs
import tempfile
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from catalogmatch.api.errors import problem_response
from core import disk


class RequestLimitsMiddleware:
    """Reject bodies that are too long, not UTF-8, or without a length. Upload handlers limit each file.

    Comes after authentication, because only signed-in users and the API may send files. The API reads no body
    before it has authenticated the user.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._reject(request) or self.get_response(request)

    @staticmethod
    def _reject(request: HttpRequest) -> HttpResponse | None:
        if "HTTP_TRANSFER_ENCODING" in request.META:
            # Django reads only as many bytes as Content-Length says, so it would read nothing.
            return problem_response(411, "length_required", "Send the body with Content-Length, not in chunks.")
        length = int(request.META.get("CONTENT_LENGTH") or 0)  # the web server has checked that this is a number
        if length and not _is_utf8(request.content_params or {}):
            detail = "The body must be UTF-8. Send it with charset=utf-8 or without a charset."
            return problem_response(415, "unsupported_media_type", detail)
        if length > settings.MAX_REQUEST_BYTES:
            return _too_large(settings.MAX_REQUEST_BYTES)
        if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE and not _may_contain_files(request):
            return _too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        if length > settings.FILE_UPLOAD_MAX_MEMORY_SIZE:
            return _no_room_for(length)
        return None


def _is_utf8(content_params: dict[str, str]) -> bool:
    try:
        return codecs.lookup(content_params.get("charset", "utf-8")).name in ("utf-8", "ascii")
    except (LookupError, ValueError):  # unknown, or with a null character
        return False


def _may_contain_files(request: HttpRequest) -> bool:
    is_allowed = request.path.startswith("/api/") or request.user.is_authenticated
    return request.content_type == "multipart/form-data" and is_allowed


def _no_room_for(length: int) -> HttpResponse | None:
    """Refuse files that would fill the disk while they arrive. Large ones wait in the folder for temporary files."""
    folder = Path(settings.FILE_UPLOAD_TEMP_DIR or tempfile.gettempdir())
    # A disk of its own for temporary files has no reserve.
    is_shared = folder.stat().st_dev == Path(settings.DATA_DIR).stat().st_dev
    if disk.free_bytes(folder) - length >= (settings.DISK_RESERVE_BYTES if is_shared else 0):
        return None
    detail = "The disk has no room for these files while they arrive. Send fewer at once, or try again later."
    return problem_response(507, disk.DISK_FULL, detail)


def _too_large(limit: int) -> HttpResponse:
    detail = f"The request is larger than {limit / 2**20:g} MiB. Send fewer images at once."
    return problem_response(413, "image_too_large", detail)
