"""Measure whether a catalogue is found by its own images in other colour spaces.

    python -m benchmarks.colours --images FOLDER [--json PATH]

Each image is saved in Adobe RGB, Display P3, ProPhoto RGB, and CMYK with the profile of a press. Each such file is then
searched by legacy features among all images, as the decoder of uploads reads both. recall@1 is the share of files whose
own image comes first, and `without` the share if a decoder ignores profiles. CMYK holds fewer colours than sRGB, so
some are lost in the file already.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from benchmarks.machine import describe_machine, print_machine
from gpu.images import decode, decode_downscaled
from gpu.imaging import profiles
from gpu.legacy import extract_legacy
from gpu.search_vectors import legacy_vector
from tests.gpu.imaging.swatches import ADOBE_RGB, DISPLAY_P3, cmyk_profile

SIDE, QUALITY = 1600, 92  # of stored images
PROPHOTO = profiles.rgb_profile((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), profiles.power(1.8))
INK_STEPS, COLOUR_BITS = 25, 5  # of the search for the inks of a colour

Convert = Callable[[Image.Image], Image.Image]


def in_rgb_space(profile: bytes) -> Convert:
    """Return the conversion from sRGB to the levels of a profile."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), target, "RGB", "RGB")
    return lambda image: _applied(image, transform)


def in_inks(profile: bytes) -> Convert:
    """Return the conversion from sRGB to the inks that look most like each colour by a profile.

    The profile says only what inks look like. So the inks of each colour are searched among many.
    """
    import faiss

    steps = np.linspace(0, 255, INK_STEPS).astype(np.uint8)
    inks = np.stack(np.meshgrid(steps, steps, steps, np.linspace(0, 255, 9).astype(np.uint8)), -1).reshape(1, -1, 4)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    shown = np.asarray(_applied(Image.frombytes("CMYK", (inks.shape[1], 1), inks.tobytes()), transform))
    index = faiss.IndexFlatL2(3)
    index.add(shown.reshape(-1, 3).astype(np.float32))
    levels = (np.arange(1 << COLOUR_BITS) + 0.5) * (256 >> COLOUR_BITS)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    best: npt.NDArray[np.uint8] = inks[0][index.search(colours, 1)[1][:, 0]]

    def convert(image: Image.Image) -> Image.Image:
        red, green, blue = (np.asarray(band).astype(int) >> (8 - COLOUR_BITS) for band in image.split())
        found = best[(red << 2 * COLOUR_BITS) | (green << COLOUR_BITS) | blue]
        return Image.frombytes("CMYK", image.size, found.tobytes())

    return convert


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted: Any = ImageCms.applyTransform(image, transform)
    return converted  # type: ignore[no-any-return]


def stored(file: bytes) -> Image.Image:
    """Return what is stored of an uploaded file."""
    image, _width, _height = decode_downscaled(file, SIDE)
    image.thumbnail((SIDE, SIDE))
    return decode(_jpeg(image))


def vector(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(legacy_vector(extract_legacy(image)))


def _jpeg(image: Image.Image, profile: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0, icc_profile=profile)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of images, read with its subfolders")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print_machine()
    images = [stored(path.read_bytes()) for path in sorted(options.images.rglob("*.jp*g"))]
    catalogue = np.stack([vector(image) for image in images])
    cmyk = cmyk_profile()
    spaces = {
        "Adobe RGB": (ADOBE_RGB, in_rgb_space(ADOBE_RGB)),
        "Display P3": (DISPLAY_P3, in_rgb_space(DISPLAY_P3)),
        "ProPhoto RGB": (PROPHOTO, in_rgb_space(PROPHOTO)),
        "CMYK": (cmyk, in_inks(cmyk)),
    }
    figures: dict[str, dict[str, float]] = {}
    for name, (profile, convert) in spaces.items():
        figures[name] = {}
        for column, kept in (("recall_at_1", profile), ("without", None)):
            queries = np.stack([vector(stored(_jpeg(convert(image), kept))) for image in images])
            first = (queries @ catalogue.T).argmax(axis=1)
            figures[name][column] = round(float(np.mean(first == np.arange(len(images)))), 3)
        print(f"{name:<14} recall@1 {figures[name]['recall_at_1']:.3f}   without {figures[name]['without']:.3f}")
    if options.json:
        report = {"benchmark": "colours", "machine": describe_machine(), "images": len(images), "results": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
