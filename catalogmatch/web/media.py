"""Serve stored images to users who may view products."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import FileResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView


class MediaView(APIView):
    permission_map = {"GET": "products.view_product"}

    @extend_schema(exclude=True)
    def get(self, request: Request, path: str) -> FileResponse:
        """Return a stored image or thumbnail. Both are JPEGs that CatalogMatch wrote and named."""
        try:
            file = (Path(settings.MEDIA_ROOT) / path).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"There is no image {path}.") from error
        response = FileResponse(file, content_type="image/jpeg")
        # The file never changes, but permissions can. So only the browser may cache it, and no proxy.
        response["Cache-Control"] = "private, max-age=86400, immutable"
        response["X-Content-Type-Options"] = "nosniff"
        return response
