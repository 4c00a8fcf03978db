"""Legacy features in numpy: a colour histogram, Hu moments and local binary patterns of one image."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu.vectors import COLOR_BINS, LEGACY, LEGACY_MODEL, TEXTURE_BINS, ByteVector, Features, FloatVector

Pixels = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
# For each byte two bins, each with the share of the pixel that goes there.
SoftBins = list[tuple[npt.NDArray[np.intp], Doubles]]

# Every image is first scaled to this square. So the cost, the texture and the weights do not depend on its size.
# The numbers here were chosen with benchmarks/tune_legacy.py.
SIDE = 128

# Standard deviation of the Gaussian weight of a pixel by its distance from the centre, as a share of the side. The
# product is usually in the centre.
COLOR_SPREAD, TEXTURE_SPREAD = 0.20, 0.35
# Weight of a grey pixel in the colour histogram; a fully saturated pixel has the weight 1.
GREY_WEIGHT = 0.1

# The 256 colours: 28 hues x 4 saturations x 2 values, and 32 levels of grey for colours too pale to have a hue.
HUES, GREYS = 28, 32
SATURATION_CENTRES, VALUE_CENTRES = (50, 105, 157, 220), (64, 192)
GREY_UP_TO, COLOURED_FROM = 12, 28

# Distance of the eight neighbours of a local binary pattern, in pixels of the scaled image.
TEXTURE_RADIUS = 3


def extract_legacy(image: Image.Image) -> Features:
    """Return the legacy features of an RGB image.

    They are colour (256,) uint8, shape (7,) float32 and texture (256,) uint8. A histogram is stored as the square root
    of each bin relative to the fullest one, 0 to 255. With one byte per bin, this distinguishes rare colours from
    absent ones. The shape holds the Hu moments on a logarithmic scale, see ``log_scaled``.
    """
    # reducing_gap lets Pillow first shrink large images by integer factors, without a visible loss.
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
    """Return the weighted colour histogram (256,) of HSV pixels (h, w, 3).

    The pixels have Pillow's 0-255 scales. The histogram sums to 1. Pixels near the centre and saturated pixels weigh
    more. A pixel between two bins counts for both, so that small changes of light or JPEG quality change the histogram
    only a little.
    """
    hue, saturation, value = (hsv[..., channel].ravel() for channel in range(3))
    hues, saturations, values, greys, coloured = _color_tables()
    centre = _centre_weights(*hsv.shape[:2], COLOR_SPREAD).ravel()
    weight = centre * (GREY_WEIGHT + (1 - GREY_WEIGHT) / 255 * saturation)
    weight_of_color = weight * coloured[saturation]
    weight_of_grey = weight - weight_of_color

    histogram = np.zeros(COLOR_BINS)
    for hue_bin, hue_share in hues:
        for saturation_bin, saturation_share in saturations:
            bins = hue_bin[hue] + saturation_bin[saturation]
            share = hue_share[hue] * saturation_share[saturation] * weight_of_color
            for value_bin, value_share in values:
                histogram += np.bincount(bins + value_bin[value], share * value_share[value], COLOR_BINS)
    for grey_bin, grey_share in greys:
        histogram += np.bincount(grey_bin[value], grey_share[value] * weight_of_grey, COLOR_BINS)
    return np.asarray(histogram / histogram.sum())


def texture_histogram(grey: Pixels) -> Doubles:
    """Return the weighted histogram (256,) of local binary patterns of grey pixels.

    The pixels are (h, w), both over 6. The histogram sums to 1.
    """
    patterns = local_binary_patterns(grey, TEXTURE_RADIUS)
    weights = _centre_weights(*patterns.shape, TEXTURE_SPREAD)
    histogram = np.bincount(patterns.ravel(), weights=weights.ravel(), minlength=TEXTURE_BINS)
    return np.asarray(histogram / histogram.sum())


def local_binary_patterns(grey: Pixels, radius: int) -> Pixels:
    """Return the pattern 0-255 of each pixel that has all its neighbours.

    The result is (h - 2·radius, w - 2·radius). Bit k is set if the k-th of eight neighbours is at least as bright as
    the pixel. The neighbours are ``radius`` pixels away along each axis, clockwise from the upper left. Source: Ojala,
    Pietikäinen and Harwood, Pattern Recognition 29, 1996.
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
    """Return Hu's seven invariants (7,) of grey pixels (h, w).

    Source: Hu, IRE Transactions on Information Theory 8, 1962. Brightness is the mass, as in OpenCV's
    ``HuMoments(moments(grey))``. A black image has zeros.
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
    """Return ``-sign(m)·log10|m|`` of each moment as float32, and 0 below 1e-30."""
    size = np.abs(moments)
    vanishing = size < 1e-30
    logarithm = np.log10(np.where(vanishing, 1.0, size))
    return (-np.sign(moments) * logarithm).astype(np.float32)


def quantise(histogram: Doubles) -> ByteVector:
    """Return the square root of each bin relative to the fullest one.

    The result is (256,) uint8, 0 to 255.
    """
    return np.asarray(np.rint(255 * np.sqrt(histogram / histogram.max())), dtype=np.uint8)


@cache
def _centre_weights(height: int, width: int, spread: float) -> Doubles:
    rows = (np.arange(height) - (height - 1) / 2) / height
    columns = (np.arange(width) - (width - 1) / 2) / width
    return np.outer(np.exp(-(rows**2) / (2 * spread**2)), np.exp(-(columns**2) / (2 * spread**2)))


@cache
def _color_tables() -> tuple[SoftBins, SoftBins, SoftBins, SoftBins, Doubles]:
    """Return the bins of each byte of hue, saturation, value and grey.

    The last part says how coloured each saturation is.
    """
    level = np.arange(256)
    of_saturation = np.interp(level, SATURATION_CENTRES, range(len(SATURATION_CENTRES)))
    of_value = np.interp(level, VALUE_CENTRES, range(len(VALUE_CENTRES)))
    value_count = len(VALUE_CENTRES)
    hue_stride = len(SATURATION_CENTRES) * value_count
    hues = [
        (bins % HUES * hue_stride, share)  # hues form a circle
        for bins, share in _between_bins((level + 0.5) * HUES / 256 - 0.5)
    ]
    saturations = [(bins * value_count, share) for bins, share in _between_bins(of_saturation)]
    of_grey = np.clip((level + 0.5) * GREYS / 256 - 0.5, 0, GREYS - 1)
    greys = [(HUES * hue_stride + bins, share) for bins, share in _between_bins(of_grey)]
    coloured = np.clip((level - GREY_UP_TO) / (COLOURED_FROM - GREY_UP_TO), 0, 1)
    return hues, saturations, _between_bins(of_value), greys, coloured


def _between_bins(position: Doubles) -> SoftBins:
    """Return the bins below and above each position, and the share of each.

    Within a quarter of a bin's width from a centre the whole pixel belongs to that bin. Beyond, the share is linear.
    """
    below = np.floor(position).astype(np.intp)
    share = np.clip(2 * (position - below) - 0.5, 0, 1)
    above = np.where(share > 0, below + 1, below)
    return [(below, 1 - share), (above, share)]
