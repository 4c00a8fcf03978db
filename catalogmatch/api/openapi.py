"""Add the error responses of each call to the OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from catalogmatch.api.errors import CONTENT_TYPE

PROBLEM = {
    "type": "object",
    "description": "An error (RFC 9457). `code` is stable. `detail` is a sentence for people.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "With `validation_error`: the error of each field.",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {
                    "field": {"type": "string", "nullable": True},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
# 408 and 411 come from the web server, 503 and 507 from the database, the broker or the disk.
ALWAYS = (400, 401, 403, 406, 429, 503)
WITH_ID_OR_PAGE = (404,)
WITH_A_BODY = (408, 411, 413, 415)
WITH_IMAGES = (422,)
ON_WRITE = (409, 507)
WITH_IF_MATCH = (412,)
FEATURES_GONE = (409,)


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the error responses of each call. A postprocessing hook of drf-spectacular."""
    result["components"]["schemas"]["Problem"] = PROBLEM
    for methods in result["paths"].values():
        for method, operation in methods.items():
            for status in _statuses(method, operation):
                operation["responses"][str(status)] = {
                    "description": HTTPStatus(status).phrase,
                    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
    return result


def _statuses(method: str, operation: dict[str, Any]) -> list[int]:
    statuses = [*ALWAYS]
    parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
    if {"id", "page"} & parameters:
        statuses += WITH_ID_OR_PAGE
    if "If-Match" in parameters:
        statuses += WITH_IF_MATCH
    if "requestBody" in operation:
        statuses += WITH_A_BODY
        if [*operation["requestBody"]["content"]] == ["multipart/form-data"] or operation["operationId"] == "search":
            statuses += WITH_IMAGES
    if method != "get":
        statuses += ON_WRITE
    elif operation["operationId"] == "matches_explanation":
        statuses += FEATURES_GONE
    return sorted(statuses)
