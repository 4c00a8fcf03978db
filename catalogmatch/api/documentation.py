"""The page that documents the API: every call of the OpenAPI document, and how to get a token."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from django.contrib import admin
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer, StaticHTMLRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

FIRST_ERROR = 400


class DocumentationView(APIView):
    permission_classes = [IsAuthenticated]
    renderer_classes = [JSONRenderer, StaticHTMLRenderer]  # of errors
    http_method_names = ["get", "head"]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Show all calls of the API by subject."""
        context = {
            **admin.site.each_context(request._request),
            "title": _("API"),
            "subjects": subjects(),
            "example": f'curl -H "Authorization: Token YOUR_TOKEN" {request.build_absolute_uri("/api/queue")}',
        }
        return TemplateResponse(request._request, "catalogmatch/api.html", context)


@lru_cache(maxsize=1)
def subjects() -> dict[str, list[dict[str, Any]]]:
    """Return the calls by subject. They are the same for each user and as long as the process runs."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    schemas = schema["components"]["schemas"]
    found: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            found.setdefault(operation["tags"][0], []).append(_call(path, method, operation, schemas))
    return dict(sorted(found.items()))


def _call(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    first, _blank, rest = operation.get("description", "").partition("\n\n")
    parameters = operation.get("parameters", [])
    good = {status: answer for status, answer in operation["responses"].items() if int(status) < FIRST_ERROR}
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": _with_code(first),
        "paragraphs": [_with_code(text) for text in rest.split("\n\n") if text.strip()],
        "parameters": [
            _field(
                one["name"], one["schema"] | {"description": one.get("description", "")}, one.get("required"), one["in"]
            )
            for one in parameters
        ],
        "formats": list(operation.get("requestBody", {}).get("content", {})),
        "fields": _fields(operation.get("requestBody", {}), schemas),
        "answers": [
            {"status": status, "formats": list(answer.get("content", {})), "fields": _fields(answer, schemas)}
            for status, answer in good.items()
        ],
        "errors": sorted(set(operation["responses"]) - set(good)),
        "is_open": method == "get" and "{" not in path,
    }


def _fields(body: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a body, those of its rows if it is a list."""
    content: dict[str, Any] = next(iter(body.get("content", {}).values()), {})
    schema = _resolved(content.get("schema", {}), schemas)
    if schema.get("type") == "array":
        schema = _resolved(schema["items"], schemas)
    required = schema.get("required", [])
    return [
        _field(name, _resolved(field, schemas), name in required)
        for name, field in schema.get("properties", {}).items()
    ]


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    for part in (schema, *schema.get("allOf", [])):
        if "$ref" in part:
            return {**schemas[part["$ref"].rsplit("/", 1)[1]], "description": schema.get("description", "")}
    return schema


def _field(name: str, schema: dict[str, Any], required: Any = False, place: str = "") -> dict[str, Any]:
    bounds = [
        f"{words} {schema[key]}"
        for key, words in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", _("at most characters:")))
        if key in schema
    ]
    return {
        "name": name,
        "type": " ".join(filter(None, (schema.get("type", ""), schema.get("format", "")))),
        "required": bool(required),
        "place": place,
        "choices": [str(choice) for choice in schema.get("enum", []) if choice],
        "bounds": ", ".join(bounds),
        "text": _with_code(schema.get("description", "")),
    }


def _with_code(text: str) -> SafeString:
    """Return text of the program as HTML, with what stands in backticks as code."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return mark_safe(escaped)  # noqa: S308  # nosec B308 B703: escaped above
