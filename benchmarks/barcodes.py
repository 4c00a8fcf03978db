"""Measure the reading of barcodes and QR codes in photographs of packs.

    python -m benchmarks.barcodes [--photographs 200] [--seed 1] [--json PATH]

Each photograph is drawn: a pack with areas of colour, lines of text and one code, on a table. It is turned by up to
15° from a quarter turn, and one in five by any angle, blurred, shaded, noisy and saved as JPEG. A module of the code
takes 1.6 to 6 pixels. As many packs without a code, but with stripes, show what is read that is not there. Times are
those of the processor.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import io
import json
import random
import time
from typing import Any

import numpy as np
import zxingcpp
from PIL import Image, ImageDraw, ImageFilter
from stdnum import ean

from gpu.imaging.barcodes import Barcode, read_barcodes

SIZE = (1600, 1200)
_FORMATS = {13: zxingcpp.BarcodeFormat.EAN13, 8: zxingcpp.BarcodeFormat.EAN8}


def draw_photograph(chance: random.Random, code: Barcode | None) -> Image.Image:
    """Return a photograph of a pack with a code, or with stripes instead of one."""
    pack = Image.new("RGB", (chance.randrange(700, 1000), chance.randrange(600, 850)), _colour(chance))
    pen = ImageDraw.Draw(pack)
    for _area in range(chance.randrange(2, 6)):
        left, top = chance.randrange(pack.width), chance.randrange(pack.height)
        pen.rectangle((left, top, left + chance.randrange(60, 400), top + chance.randrange(40, 200)), _colour(chance))
    for line in range(chance.randrange(4, 12)):
        words = " ".join(
            chance.choice(("fresh", "organic", "500 g", "keep cool", "best before", "1 l")) for _ in range(6)
        )
        pen.text((chance.randrange(100), 30 + 50 * line), words, _colour(chance), font_size=chance.randrange(14, 40))
    label = _label(chance, code) if code else _stripes(chance)
    scale = min(1.0, 0.9 * pack.width / label.width, 0.9 * pack.height / label.height)
    label = label.resize((round(label.width * scale), round(label.height * scale)), Image.Resampling.BICUBIC)
    pack.paste(label, (chance.randrange(pack.width - label.width), chance.randrange(pack.height - label.height)))
    photograph = Image.new("RGB", SIZE, _colour(chance))
    angle = (
        chance.uniform(0, 360) if chance.random() < 0.2 else chance.choice((0, 90, 180, 270)) + chance.uniform(-15, 15)
    )
    mask = Image.new("L", pack.size, 255).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    turned = pack.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    photograph.paste(turned, ((SIZE[0] - turned.width) // 2, (SIZE[1] - turned.height) // 2), mask)
    return _photographed(chance, photograph)


def _photographed(chance: random.Random, image: Image.Image) -> Image.Image:
    """Return an image blurred, shaded, noisy and saved as JPEG."""
    image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0, 1.2)))
    pixels = np.asarray(image, dtype=np.float32)
    rows, columns = np.mgrid[0 : 1 : 1j * image.height, 0 : 1 : 1j * image.width]
    angle = chance.uniform(0, 2 * np.pi)
    shade = 1 - chance.uniform(0, 0.6) * np.clip(
        0.5 + (rows - 0.5) * np.sin(angle) + (columns - 0.5) * np.cos(angle), 0, 1
    )
    noise = np.random.default_rng(chance.randrange(2**32)).normal(0, chance.uniform(0, 8), pixels.shape[:2])
    pixels = np.clip(pixels * shade[..., None] + noise[..., None], 0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=chance.randrange(60, 95))
    return Image.open(file).convert("RGB")


def _label(chance: random.Random, code: Barcode) -> Image.Image:
    is_qr = code.kind == "qr"
    symbol = zxingcpp.create_barcode(code.text, zxingcpp.BarcodeFormat.QRCode if is_qr else _FORMATS[len(code.text)])
    drawn = Image.fromarray(np.asarray(symbol.to_image(scale=8, add_quiet_zones=True)))
    module = chance.uniform(1.6, 5.0) if not is_qr else chance.uniform(2.5, 6.0)
    size = (round(drawn.width * module / 8), round(drawn.height * module / 8))
    return drawn.resize(size, Image.Resampling.LANCZOS).convert("RGB")


def _stripes(chance: random.Random) -> Image.Image:
    """Return bars of random widths on white, which are no code."""
    image = Image.new("RGB", (chance.randrange(150, 450), chance.randrange(60, 200)), "white")
    pen = ImageDraw.Draw(image)
    at = 12
    while at < image.width - 12:
        width = chance.randrange(1, 5) * 2
        pen.rectangle((at, 0, at + width - 1, image.height), "black")
        at += width + chance.randrange(1, 5) * 2
    return image


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


def _make_code(chance: random.Random) -> Barcode:
    draw = chance.random()
    if draw < 0.15:
        return Barcode("qr", f"https://example.com/p/{chance.randrange(10**8)}")
    digits = "".join(chance.choice("0123456789") for _ in range(12 if draw < 0.9 else 7))
    return Barcode("gtin", digits + ean.calc_check_digit(digits))


def run(seed: int, photographs: int) -> dict[str, Any]:
    """Draw, read and count."""
    chance = random.Random(seed)
    read = wrong = 0
    milliseconds = {"with_code": [], "without_code": []}  # type: dict[str, list[float]]
    for number in range(2 * photographs):
        code = _make_code(chance) if number < photographs else None
        photograph = draw_photograph(chance, code)
        start = time.process_time()
        found = read_barcodes(photograph)
        milliseconds["with_code" if code else "without_code"].append(1000 * (time.process_time() - start))
        right = [one for one in found if code and one.text.lstrip("0") == code.text.lstrip("0")]
        read += bool(right)
        wrong += len(found) - len(right)
    return {
        "photographs": photographs,
        "read": read / photographs,
        "wrong": wrong,
        **{f"median_ms_{name}": round(float(np.median(times)), 2) for name, times in milliseconds.items()},
        **{f"p95_ms_{name}": round(float(np.quantile(times, 0.95)), 2) for name, times in milliseconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args()
    result = run(options.seed, options.photographs)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
