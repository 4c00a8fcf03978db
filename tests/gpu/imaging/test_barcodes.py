"""Barcodes and QR codes are read from images, and nothing that is not there."""

from __future__ import annotations

import random

import numpy as np
import pytest
import zxingcpp
from PIL import Image

from benchmarks.barcodes import draw_photograph
from gpu.imaging.barcodes import Barcode, read_barcodes

EAN = Barcode("gtin", "4006381333931")
QR = Barcode("qr", "https://example.com/p/1")


@pytest.mark.parametrize("code", [EAN, QR, Barcode("gtin", "73513537")])
@pytest.mark.parametrize("seed", [3, 4])
def test_code_in_a_photograph_of_a_pack_is_read(code, seed):
    assert read_barcodes(draw_photograph(random.Random(seed), code)) == [code]


@pytest.mark.parametrize("angle", [0, 45, 90, 135, 180])
def test_barcode_is_read_however_it_is_turned(angle):
    symbol = zxingcpp.create_barcode(EAN.text, zxingcpp.BarcodeFormat.EAN13).to_image(scale=3, add_quiet_zones=True)
    image = Image.new("RGB", (700, 600), "white")
    image.paste(Image.fromarray(np.asarray(symbol)).convert("RGB"), (160, 200))
    assert read_barcodes(image.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")) == [EAN]


@pytest.mark.parametrize("size", [(16, 16), (16, 800), (3000, 100)])
def test_image_without_a_code_has_none(size):
    assert read_barcodes(Image.effect_noise(size, 80).convert("RGB")) == []


def test_stripes_on_packs_are_no_codes():
    assert [read_barcodes(draw_photograph(random.Random(seed), None)) for seed in range(5)] == [[]] * 5
