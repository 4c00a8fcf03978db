"""Images to measure on: the catalogue's own, and drawn ones while it has too few."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from django.conf import settings
from PIL import Image, ImageDraw

from gpu.encoders.preprocess import Pixels, Preprocess
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError

# More images would change the share of the ten nearest in common by less than a hundredth, and take longer.
MAX_IMAGES = 120
# With fewer, drawn images are added.
MIN_IMAGES = 60
_MAX_LISTED = 20_000  # of a large catalogue, the first files of its folders, whose names are random
_SIDE_PIXELS = 320


def sample(preprocess: Preprocess, folder: Path | None = None) -> tuple[list[Pixels], int]:
    """Return the pixels of up to MAX_IMAGES images in a folder, and how many of them were drawn.

    The default is the folder of the catalogue's images. Unreadable files are left out.
    """
    paths = sorted(_files(folder or catalogue_folder()))
    random.Random(0).shuffle(paths)  # noqa: S311  # nosec B311 # the same images each time, nothing is secret
    prepared: list[Pixels] = []
    for path in paths[: 2 * MAX_IMAGES]:
        if len(prepared) == MAX_IMAGES:
            break
        try:
            prepared.append(preprocess(decode(path, draft_side=preprocess.draft_side)))
        except ImageProcessingError:
            continue
    drawn = [preprocess(draw(number)) for number in range(max(0, MIN_IMAGES - len(prepared)))]
    return [*prepared, *drawn], len(drawn)


def has_enough() -> bool:
    """Return whether the catalogue has enough images of its own."""
    return len(list(islice(_files(catalogue_folder()), MIN_IMAGES))) == MIN_IMAGES


def catalogue_folder() -> Path:
    return Path(settings.MEDIA_ROOT) / "pictures"


def draw(number: int) -> Image.Image:
    """Return a drawn image that looks a little like a product: things of several colours on a background."""
    chance = random.Random(number)  # noqa: S311  # nosec B311 # the same image each time

    def colour() -> tuple[int, int, int]:
        return chance.randrange(256), chance.randrange(256), chance.randrange(256)

    image = Image.linear_gradient("L").resize((_SIDE_PIXELS, _SIDE_PIXELS)).rotate(chance.choice((0, 90, 180, 270)))
    image = Image.merge("RGB", [image.point([level * share // 255 for level in range(256)]) for share in colour()])
    pen = ImageDraw.Draw(image)
    for _ in range(chance.randrange(3, 12)):
        left, top = (chance.randrange(_SIDE_PIXELS * 3 // 4) for _ in range(2))
        box = (left, top, left + chance.randrange(20, 200), top + chance.randrange(20, 200))
        chance.choice((pen.rectangle, pen.ellipse))(box, fill=colour(), outline=colour(), width=chance.randrange(9))
    pen.text((chance.randrange(200), chance.randrange(280)), f"No {number * 7919}", fill=colour(), font_size=40)
    return image


def _files(folder: Path) -> Iterator[Path]:
    """Yield at most _MAX_LISTED files below the folder."""
    found = (Path(parent, name) for parent, _folders, names in os.walk(folder) for name in names)
    return islice(found, _MAX_LISTED)
