"""Lists of products whose memory stays bounded, however large the products are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework import generics
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from core.column_sizes import text_bytes
from core.database.batches import split_by_bytes
from products.exporting import LARGE_COLUMNS
from products.models import Product

# A page up to this size is built before it is sent, so that an error while it is built gets its own status.
MAX_BUFFERED_BYTES = 4 * 2**20


class ProductPages(generics.ListAPIView[Product]):
    """A paged list that reads and sends a few products at a time if they are large."""

    def list(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        products = self.filter_queryset(self.get_queryset()).prefetch_related(None)
        sizes = self.paginate_queryset(products.values_list("pk", text_bytes(LARGE_COLUMNS)))
        assert self.paginator is not None and sizes is not None  # noqa: S101, PT018  # nosec B101 # types
        envelope = JSONRenderer().render(self.paginator.get_paginated_response([]).data)
        head = envelope.removesuffix(b"[]}")
        rows = self._rows(sizes)
        parts, size = [head, b"["], 0
        for row in rows:
            parts.append(row)
            size += len(row)
            if size > MAX_BUFFERED_BYTES:
                break
        else:
            return HttpResponse(b"".join([*parts, b"]}"]), content_type="application/json")
        return StreamingHttpResponse(chain(parts, rows, [b"]}"]), content_type="application/json")

    def _rows(self, sizes: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """Yield the products as JSON, in order and separated by commas. Leave out those deleted since."""
        comma = b""
        for batch in split_by_bytes(sizes):
            found = {product.pk: product for product in self.get_queryset().filter(pk__in=batch)}
            for product in (found[pk] for pk in batch if pk in found):
                yield comma + JSONRenderer().render(self.get_serializer(product).data)
                comma = b","
