"""ETags: a version of what a GET returned, and the check that a change was made on that version."""

from __future__ import annotations

import hashlib
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from products.models import Product

IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of what you saw. If it has changed, 412 `stale`."
)


class ETagMismatchError(Exception):
    """The thing has another version than the request's If-Match."""

    code = "stale"


def with_etag(response: Response, version: str) -> Response:
    """Return the response with this version as its ETag."""
    response["ETag"] = f'"{version}"'
    return response


def if_match(request: Request) -> str | None:
    """Return the version that If-Match names, or None if any version will do."""
    header = request.headers.get("If-Match", "").strip()
    return None if header in ("", "*") else header.removeprefix("W/").strip('"')


def check_product(product: Product, version: str | None) -> None:
    """Raise ETagMismatchError if the product has another version."""
    if version is not None and version != product_version(product):
        raise ETagMismatchError(_("The product has changed since you read it. Read it again, then change it."))


def product_version(product: Product) -> str:
    """Return a text that changes with the fields and the images of a product, but not with their embedding."""
    fields: dict[str, Any] = {field.attname: getattr(product, field.attname) for field in Product._meta.concrete_fields}
    fields.pop("unmatched_since")
    links = [link.other_id for link in product.same_as_links.all()]
    parts = [fields, sorted(image.pk for image in product.images.all()), *([links] if links else [])]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
