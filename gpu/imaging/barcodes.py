"""Read the barcodes and QR codes in an image of a product.

The decoder process calls this with the image that it has decoded. It must import this module before it limits itself,
because it can open no files later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import zxingcpp
from PIL import Image

# Larger images only take longer: a code that is readable in a photograph is readable at this size.
SIDE = 1600
MAX_CODES = 20
MAX_TEXT = 2000
GTIN_DIGITS = 14
# The version of the reader. Raise it if it reads what it did not read before: then stored images are read again.
READER = 1

_Format = zxingcpp.BarcodeFormat
# Without UPC-E: it has no check digit of its own, and was read in two of 200 photographs of other codes.
_GTIN_FORMATS = zxingcpp.BarcodeFormats([_Format.EAN13, _Format.EAN8, _Format.UPCA])
# A GS1 Digital Link, such as https://example.com/01/09506000134352, or GS1's element string (01)09506000134352.
_GTIN_IN_TEXT = re.compile(r"(?:/01/|\(01\)|/gtin/)(\d{14}|\d{12,13}|\d{8})(?!\d)", re.ASCII)
_ALL_FORMATS = zxingcpp.BarcodeFormats([_Format.EAN13, _Format.EAN8, _Format.UPCA, _Format.QRCode])


class Barcode(NamedTuple):
    """``kind`` is "gtin" or "qr". ``text`` has the digits of a GTIN, 8 to 13, or the text of a QR code."""

    kind: str
    text: str


def read_barcodes(image: Image.Image) -> list[Barcode]:
    """Return the codes in an RGB or grey image, each once. What cannot be read for certain is left out."""
    grey = image.convert("L")
    if max(grey.size) > SIDE:
        grey.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    # Also trying smaller and inverted images takes half as long again, finds no more, and read one wrong code in 120.
    codes = zxingcpp.read_barcodes(grey, formats=_ALL_FORMATS, try_downscale=False, try_invert=False)
    if not codes:
        # The reader looks along rows and columns. Bars that lie between both are found in the turned image.
        turned = grey.rotate(45, expand=True, fillcolor=128)
        codes = zxingcpp.read_barcodes(
            turned,
            formats=_GTIN_FORMATS,
            binarizer=zxingcpp.Binarizer.GlobalHistogram,
            try_downscale=False,
            try_invert=False,
        )
    found = [
        Barcode("qr" if code.format == _Format.QRCode else "gtin", code.text[:MAX_TEXT])
        for code in codes
        if code.valid and code.text
    ]
    different = list(dict.fromkeys(found))
    # One code can be read twice, with a wrong left half once. Which is right cannot be known.
    right_halves = Counter(code.text[-6:] for code in different if code.kind == "gtin")
    return [code for code in different if code.kind == "qr" or right_halves[code.text[-6:]] == 1][:MAX_CODES]


def gtins(codes: Iterable[Barcode]) -> list[str]:
    """Return the GTINs that codes name, as 14 digits, each once: those of barcodes, and those inside QR codes.

    An ISBN on a book is a GTIN too. Numbers with a wrong check digit, and those of zeros only, are left out.
    """
    numbers: list[str] = []
    for code in codes:
        numbers += [code.text] if code.kind == "gtin" else _GTIN_IN_TEXT.findall(code.text)
    valid = [number.zfill(GTIN_DIGITS) for number in numbers if number.strip("0") and _has_check_digit(number)]
    return list(dict.fromkeys(valid))[:MAX_CODES]


def _has_check_digit(number: str) -> bool:
    """Return whether the check digit of a GTIN is right. The library stdnum would bring sockets into the sandbox."""
    if not (number.isascii() and number.isdigit()):
        return False
    digits = [int(digit) for digit in number.zfill(GTIN_DIGITS)]
    return (3 * sum(digits[::2]) + sum(digits[1::2])) % 10 == 0
