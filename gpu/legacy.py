"""Legacy features: a colour histogram, Hu moments and local binary patterns of one picture, in numpy alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu.features import COLOR_BINS, LEGACY, LEGACY_MODEL, TEXTURE_BINS, ByteVector, Features, FloatVector

Pixels = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

# Every picture is squeezed to this square first: the cost does not depend on its size, nor do the scales of
# the texture and of the weights. The numbers here were chosen by benchmarks/tune_legacy.py.
SIDE = 128

# Spread of the Gaussian weight of a pixel by its distance from the middle, as a share of the side: what was
# photographed stands in the middle, what happened to stand beside it does not.
COLOR_SPREAD, TEXTURE_SPREAD = 0.20, 0.35
# What a pixel without any colour weighs in the colour histogram, next to 1 for a fully saturated one.
GREY_WEIGHT = 0.1

# The 256 colours: 28 hues x 4 saturations x 2 values, and 32 levels of grey for what is too pale to have a hue.
HUES, GREYS = 28, 32
SATURATION_EDGES, VALUE_EDGE = (80, 130, 185), 128
PALEST_HUE = 20

# How far the eight neighbours of a local binary pattern are, in pixels of the squeezed picture.
TEXTURE_RADIUS = 3


def extract_legacy(image: Image.Image) -> Features:
    """Legacy features of an RGB picture of any size: colour (256,) uint8, shape (7,) float32, texture (256,) uint8.

    Histograms are stored as the square root of each bin against the fullest one, 0 to 255: with one byte a bin,
    that keeps rare colours apart from absent ones. The shape is the Hu moments on a logarithmic scale, see
    ``log_scaled``.
    """
    # reducing_gap lets Pillow shrink large pictures by whole factors first, at no loss that matters here.
    square = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    grey = np.asarray(square.convert("L"))
    return Features(
        kind=LEGACY,
        model_name=LEGACY_MODEL,
        color=quantise(color_histogram(np.asarray(square.convert("HSV")))),
        shape=log_scaled(hu_moments(grey)),
        texture=quantise(texture_histogram(grey)),
    )


def color_histogram(hsv: Pixels) -> Doubles:
    """Weighted histogram (256,) of the colours in HSV pixels (h, w, 3), Pillow's 0-255 scales; it sums to 1.

    A pixel weighs more in the middle of the picture and more the more saturated it is.
    """
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    hue_part, saturation_part, value_part, grey_bin = _color_tables()
    coloured = hue_part[hue] + saturation_part[saturation] + value_part[value]
    bins = np.where(saturation < PALEST_HUE, grey_bin[value], coloured)
    weights = _centre_weights(*bins.shape, COLOR_SPREAD) * (GREY_WEIGHT + (1 - GREY_WEIGHT) / 255 * saturation)
    histogram = np.bincount(bins.ravel(), weights=weights.ravel(), minlength=COLOR_BINS)
    return histogram / histogram.sum()


def texture_histogram(grey: Pixels) -> Doubles:
    """Weighted histogram (256,) of the local binary patterns in grey pixels (h, w), both over 6; it sums to 1."""
    patterns = local_binary_patterns(grey, TEXTURE_RADIUS)
    weights = _centre_weights(*patterns.shape, TEXTURE_SPREAD)
    histogram = np.bincount(patterns.ravel(), weights=weights.ravel(), minlength=TEXTURE_BINS)
    return histogram / histogram.sum()


def local_binary_patterns(grey: Pixels, radius: int) -> Pixels:
    """The pattern 0-255 of each pixel that has all its neighbours, (h - 2·radius, w - 2·radius).

    Bit k is set where the k-th of eight neighbours, clockwise from the upper left at ``radius`` pixels along
    each axis, is at least as bright as the pixel. Ojala, Pietikäinen and Harwood, Pattern Recognition 29, 1996.
    """
    height, width = grey.shape
    centre = grey[radius : height - radius, radius : width - radius]
    patterns = np.zeros_like(centre)
    neighbours = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    for bit, (row, column) in enumerate(neighbours):
        top, left = row * radius, column * radius
        neighbour = grey[top : top + centre.shape[0], left : left + centre.shape[1]]
        patterns |= (neighbour >= centre).astype(np.uint8) << bit
    return patterns


def hu_moments(grey: Pixels) -> Doubles:
    """The seven invariants (7,) of Hu, IRE Transactions on Information Theory 8, 1962, of grey pixels (h, w).

    Brightness is the mass, as in OpenCV's ``HuMoments(moments(grey))``. A black picture has zeros.
    """
    pixels = grey.astype(np.float64)
    mass = pixels.sum()
    if mass == 0:
        return np.zeros(7)
    rows, columns = np.arange(pixels.shape[0]), np.arange(pixels.shape[1])
    rows_out = rows - pixels.sum(axis=1) @ rows / mass
    columns_out = columns - pixels.sum(axis=0) @ columns / mass
    powers = np.arange(4)[:, None]
    central = (columns_out**powers) @ pixels.T @ (rows_out**powers).T  # [p, q]: p along x, q along y
    order = powers + powers.T
    n = central / mass ** (order / 2 + 1)

    a, b = n[3, 0] + n[1, 2], n[2, 1] + n[0, 3]
    c, d = n[3, 0] - 3 * n[1, 2], 3 * n[2, 1] - n[0, 3]
    e = n[2, 0] - n[0, 2]
    return np.array(
        [
            n[2, 0] + n[0, 2],
            e**2 + 4 * n[1, 1] ** 2,
            c**2 + d**2,
            a**2 + b**2,
            c * a * (a**2 - 3 * b**2) + d * b * (3 * a**2 - b**2),
            e * (a**2 - b**2) + 4 * n[1, 1] * a * b,
            d * a * (a**2 - 3 * b**2) - c * b * (3 * a**2 - b**2),
        ]
    )


def log_scaled(moments: Doubles) -> FloatVector:
    """``-sign(m)·log10|m|`` of each moment as float32, and 0 for a moment that vanishes (below 1e-30)."""
    size = np.abs(moments)
    vanishing = size < 1e-30
    logarithm = np.log10(np.where(vanishing, 1.0, size))
    return (-np.sign(moments) * logarithm).astype(np.float32)


def quantise(histogram: Doubles) -> ByteVector:
    """Square root of each bin against the fullest one, as 0 to 255, (256,) uint8. The histogram is not empty."""
    return np.rint(255 * np.sqrt(histogram / histogram.max())).astype(np.uint8)


@cache
def _centre_weights(height: int, width: int, spread: float) -> Doubles:
    rows = (np.arange(height) - (height - 1) / 2) / height
    columns = (np.arange(width) - (width - 1) / 2) / width
    return np.outer(np.exp(-(rows**2) / (2 * spread**2)), np.exp(-(columns**2) / (2 * spread**2)))


@cache
def _color_tables() -> tuple[npt.NDArray[np.intp], ...]:
    """What each byte of hue, saturation and value adds to the bin, and the bin of each grey."""
    level = np.arange(256)
    saturations, values = len(SATURATION_EDGES) + 1, 2
    return (
        level * HUES // 256 * saturations * values,
        np.digitize(level, SATURATION_EDGES) * values,
        (level >= VALUE_EDGE).astype(np.intp),
        HUES * saturations * values + level * GREYS // 256,
    )
