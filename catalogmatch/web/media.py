"""Pictures for signed-in users only: whoever may see products may see their pictures."""

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
        """Serve a derivative or a thumbnail; both are JPEGs that we wrote ourselves, under names that we made."""
        try:
            file = (Path(settings.MEDIA_ROOT) / path).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"There is no picture {path}.") from error
        response = FileResponse(file, content_type="image/jpeg")
        # A picture never changes under its name, but who may see it can: only the browser itself keeps it.
        response["Cache-Control"] = "private, max-age=86400, immutable"
        response["X-Content-Type-Options"] = "nosniff"
        return response
