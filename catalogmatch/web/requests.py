"""Requests and their WSGI handler: all text is UTF-8."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters


class UnicodeRequest(WSGIRequest):
    """A request whose query and forms are read as UTF-8, whatever charset it names.

    Django reads the query in that charset too, while it makes the request. Some charsets raise errors there, outside
    of everything that turns an error into a response. ``RequestLimitsMiddleware`` rejects a body in another charset.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))


class UnicodeHandler(WSGIHandler):
    request_class = UnicodeRequest
