"""Read images for training: decoded in threads, each time another part of the image in another light."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from core.cpu import cpu_cores
from gpu.encoders.preprocess import Pixels, Preprocess
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError

# What another photograph of the same product may change. Images are not mirrored: that would spoil what is written.
CROP_SHARE, CROP_ASPECT = (0.7, 1.0), (0.8, 1.25)
LIGHT = (0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The pixels (n, crop, crop, 3) of those images that could be read, and their places (n,) in the request."""

    pixels: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]


class Loader:
    """Loads images in threads. Close it after use."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._pool = ThreadPoolExecutor(cpu_cores(), "load")

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def batches(self, batches: Sequence[tuple[Sequence[Path], Sequence[int] | None]]) -> Iterator[Loaded]:
        """Yield the images of each batch, and read the next batch meanwhile.

        A batch has paths and a seed for each, or None for the images as they are.
        """
        coming: list[list[Future[Pixels | None]]] = []
        for number in range(len(batches)):
            for ahead in range(number + len(coming), min(number + 2, len(batches))):
                paths, seeds = batches[ahead]
                own = seeds if seeds is not None else [None] * len(paths)
                coming.append([self._pool.submit(self._read, *pair) for pair in zip(paths, own, strict=True)])
            yield self._collected([future.result() for future in coming.pop(0)])

    def _collected(self, read: list[Pixels | None]) -> Loaded:
        found = [(place, pixels) for place, pixels in enumerate(read) if pixels is not None]
        side = self._preprocess.crop
        pixels = np.zeros((len(found), side, side, 3), np.uint8)
        for row, (_, own) in enumerate(found):
            pixels[row] = own
        return Loaded(pixels, np.array([place for place, _ in found], np.int64))

    def _read(self, path: Path, seed: int | None) -> Pixels | None:
        try:
            image = decode(path, draft_side=self._preprocess.draft_side)
        except (ImageProcessingError, OSError):
            return None
        return self._preprocess(image if seed is None else varied(image, np.random.default_rng(seed)))


def varied(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a part of the image in another light, as the generator chooses.

    Source of the ranges: Chen et al., "A simple framework for contrastive learning of visual representations", 2020,
    with half of their changes of light, since colours tell products apart.
    """
    width, height = image.size
    share, aspect = rng.uniform(*CROP_SHARE), np.exp(rng.uniform(*np.log(CROP_ASPECT)))
    own = (
        min(width, max(1, round(width * float(np.sqrt(share * aspect))))),
        min(height, max(1, round(height * float(np.sqrt(share / aspect))))),
    )
    left, top = int(rng.integers(0, width - own[0] + 1)), int(rng.integers(0, height - own[1] + 1))
    part = image.crop((left, top, left + own[0], top + own[1]))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        part = enhance(part).enhance(float(rng.uniform(*LIGHT)))
    return part
