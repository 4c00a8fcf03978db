"""Altered copies of catalogue images, as another camera and another hand would make them. Nothing is stored."""

from __future__ import annotations

import io
import random
from pathlib import Path

from PIL import Image, ImageEnhance

from gpu.images import decode
from products.models import ProductImage

# As photographs of one product differ. Each copy draws its own.
CROPPED, TURNED_DEGREES, LIGHT, SCALED, QUALITY = 0.08, 4.0, 0.2, (0.5, 0.9), (55, 85)


def altered_copy(image: ProductImage, seed: int) -> bytes:
    """Return a JPEG of a stored image, cropped, turned, relit, scaled and compressed. The same seed gives the same.

    Raises FileNotFoundError, and ImageProcessingError for a damaged file.
    """
    chance = random.Random(f"{seed} {image.sha256}")  # noqa: S311  # nosec B311: no secret
    picture = decode(Path(image.file.path).read_bytes())
    turned = picture.rotate(
        chance.uniform(-TURNED_DEGREES, TURNED_DEGREES), Image.Resampling.BICUBIC, fillcolor=_edge(picture)
    )
    width, height = turned.size
    left, top, right, bottom = (chance.uniform(0, CROPPED) for _side in range(4))
    cropped = turned.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )
    relit = ImageEnhance.Brightness(cropped).enhance(1 + chance.uniform(-LIGHT, LIGHT))
    scale = chance.uniform(*SCALED)
    smaller = relit.resize((max(16, round(relit.width * scale)), max(16, round(relit.height * scale))))
    output = io.BytesIO()
    smaller.save(output, "JPEG", quality=chance.randrange(*QUALITY))
    return output.getvalue()


def _edge(picture: Image.Image) -> tuple[int, int, int]:
    """Return the colour of a corner, which continues most backgrounds."""
    red, green, blue = picture.getpixel((0, 0))  # type: ignore[misc]  # RGB
    return int(red), int(green), int(blue)
