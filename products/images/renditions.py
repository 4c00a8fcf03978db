"""Smaller copies of stored images, computed when a page shows them."""

from __future__ import annotations

import io
from pathlib import Path

from gpu.images import decode_downscaled
from products.models import ProductImage

QUALITY = 82  # of the JPEG
UNCHANGED_BYTES = 60_000  # a file up to this size is sent as it is


def downscaled(image: ProductImage, side: int) -> bytes:
    """Return a stored image as a JPEG whose longer side has at most this many pixels.

    Raises FileNotFoundError, and ImageProcessingError for a damaged file.
    """
    content = Path(image.file.path).read_bytes()
    if max(image.width, image.height) <= side or len(content) <= UNCHANGED_BYTES:
        return content
    picture, _width, _height = decode_downscaled(content, side)
    picture.thumbnail((side, side))
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=QUALITY, optimize=True)
    return output.getvalue()
