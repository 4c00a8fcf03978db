"""Colours: what decoding returns is what a viewer shows, whatever colour space the file is in."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu.images import decode
from gpu.imaging import colour_management, profiles
from gpu.sandbox.pool import decode_in_sandbox
from tests.gpu.imaging import swatches
from tests.gpu.imaging.swatches import (
    COLOURS,
    DISPLAY_P3,
    EXACT,
    INKS,
    LINEAR,
    PROFILES,
    SRGB,
    card,
    chunk,
    difference,
    file_of,
    first_clear,
    greys,
    in_space,
    png,
    tiff,
)  # fmt: skip
from tests.helpers.sample_images import as_file

WITH_ALPHA = ["PNG", "WebP", "AVIF", "HEIC", "TIFF"]
ROUNDING = 8  # levels: both conversions have 8 bits, and lossy formats add a little
DARK_ROUNDING = 16  # the darkest levels of a linear profile lie far apart
GREY = swatches.LEVELS


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", EXACT)
def test_profile_is_followed_in_every_format(kind: str, profile: str) -> None:
    icc = PROFILES[profile]
    assert difference(decode(file_of(icc, in_space(icc, card()), kind)), COLOURS) <= ROUNDING


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", WITH_ALPHA)
def test_profile_is_followed_before_transparency(kind: str, profile: str) -> None:
    icc = PROFILES[profile]
    shown = decode(file_of(icc, first_clear(in_space(icc, card())), kind))
    assert difference(shown, [swatches.CLEAR, *COLOURS[1:]]) <= ROUNDING


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_profile_is_followed_in_palettes(kind: str) -> None:
    palette = in_space(DISPLAY_P3, card()).quantize(16, dither=Image.Dither.NONE)
    assert difference(decode(file_of(DISPLAY_P3, palette, kind)), COLOURS) <= ROUNDING


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "AVIF", "HEIC", "TIFF"])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
def test_profile_is_followed_in_grey_images(kind: str, gamma: float) -> None:
    icc = profiles.grey_profile(profiles.power(gamma))
    stored = in_space(icc, card(greys()), "L")
    options: dict[str, Any] = {"quality": 97} if kind == "JPEG" else {}
    data = as_file(stored, kind, icc_profile=icc, **options)
    assert difference(decode(data), greys()) <= DARK_ROUNDING
    if kind in {"PNG", "TIFF"}:
        clear = decode(file_of(icc, first_clear(stored), kind))
        assert difference(clear, [swatches.CLEAR, *greys()[1:]]) <= DARK_ROUNDING


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_follows_its_profile_and_only_one_for_cmyk(kind: str) -> None:
    icc = swatches.cmyk_profile()
    inks = card(INKS, "CMYK")
    assert difference(decode(file_of(icc, inks, kind)), swatches.printed(icc)) <= ROUNDING
    assert difference(decode(file_of(DISPLAY_P3, inks, kind)), swatches.plain_inks()) <= ROUNDING
    assert difference(decode(as_file(inks, kind, **EXACT[kind])), swatches.plain_inks()) <= ROUNDING


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(
    "profile",
    [b"", b"garbage" * 40, DISPLAY_P3[:250], swatches.cmyk_profile(), profiles.grey_profile(profiles.power(1.0)), SRGB],
    ids=["none", "garbage", "half", "CMYK", "grey", "sRGB"],
)
def test_profile_that_does_not_fit_changes_nothing(kind: str, profile: bytes) -> None:
    assert difference(decode(file_of(profile, card(), kind)), COLOURS) <= 5


def test_srgb_profile_costs_no_transform() -> None:
    image = card()
    image.info["icc_profile"] = SRGB
    assert colour_management.transform_of(image, "RGB", b"", "JPEG") is None
    image.info["icc_profile"] = DISPLAY_P3
    first = colour_management.transform_of(image, "RGB", b"", "JPEG")
    assert first is not None
    assert colour_management.transform_of(image, "RGB", b"", "JPEG") is first


def test_display_p3_is_built_by_the_published_numbers() -> None:
    # sRGB's red, green and blue in Display P3, by CSS Color 4: 0.9175 0.2003 0.1386, and so on.
    primaries = card([(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    assert difference(in_space(DISPLAY_P3, primaries), [(234, 51, 35), (117, 251, 76), (0, 0, 245)]) <= 2


# --- PNG, AVIF and HEIC by numbers ---------------------------------------------------------------------

P3_PIXELS = np.asarray(in_space(DISPLAY_P3, card()))
LINEAR_PIXELS = np.asarray(in_space(LINEAR, card()))
PLAIN = np.asarray(card())
CICP_P3, GAMA_1 = chunk(b"cICP", bytes([12, 13, 0, 1])), chunk(b"gAMA", struct.pack(">I", 100_000))
CHRM_P3 = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))


@pytest.mark.parametrize(
    ("pixels", "chunks"),
    [
        (LINEAR_PIXELS, [GAMA_1]),
        (P3_PIXELS, [CICP_P3]),
        (P3_PIXELS, [chunk(b"gAMA", struct.pack(">I", 45_455)), CHRM_P3]),
        (LINEAR_PIXELS, [chunk(b"cICP", bytes([1, 8, 0, 1]))]),
        (PLAIN, [chunk(b"gAMA", struct.pack(">I", 45_455))]),
        # The first of cICP, iCCP, sRGB and gAMA counts.
        (P3_PIXELS, [GAMA_1, iccp(LINEAR), CICP_P3]),
        (P3_PIXELS, [GAMA_1, iccp(DISPLAY_P3)]),
        (PLAIN, [chunk(b"sRGB", b"\0"), GAMA_1]),
        # What is broken or impossible is passed over.
        (PLAIN, [chunk(b"gAMA", b"\0")]),
        (PLAIN, [chunk(b"gAMA", bytes(4))]),
        (PLAIN, [chunk(b"cHRM", bytes(32))]),
        (PLAIN, [chunk(b"cICP", bytes([12, 13, 5, 1]))]),
        (PLAIN, [chunk(b"cICP", bytes([99, 99, 0, 1]))]),
        (PLAIN, [chunk(b"iCCP", b"profile\0\1garbage")]),
        (PLAIN, [iccp(DISPLAY_P3)[:-4] + b"crc!"]),
        (PLAIN, [chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(100_000_000)))]),
    ],
)
def test_png_follows_the_chunks_about_its_colours(pixels: Any, chunks: list[bytes]) -> None:
    assert difference(decode(png(pixels, 8, 2, *chunks)), COLOURS) <= ROUNDING
    assert difference(decode(png(pixels.astype(np.uint16) * 257, 16, 2, *chunks)), COLOURS) <= ROUNDING


def test_grey_png_follows_its_gamma() -> None:
    stored = np.asarray(in_space(profiles.grey_profile(profiles.power(1.0)), card(greys()), "L"))
    for bits, data in ((8, stored), (16, stored.astype(np.uint16) * 257)):
        assert difference(decode(png(data, bits, 0, GAMA_1)), greys()) <= DARK_ROUNDING
        both = np.dstack([data, np.full_like(data, (1 << bits) - 1)])
        assert difference(decode(png(both, bits, 4, GAMA_1)), greys()) <= DARK_ROUNDING


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_code_points_of_avif_and_heic_are_followed(kind: str) -> None:
    data = as_file(in_space(DISPLAY_P3, card()), kind, **EXACT[kind])
    place = data.index(b"colrnclx") + 8
    assert difference(decode(data), COLOURS) > 20
    named = data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :]
    assert difference(decode(named), COLOURS) <= ROUNDING


def test_bright_light_of_hdr_curves_becomes_white() -> None:
    for transfer in (16, 18):
        shown = decode(png(np.asarray(card(greys())), 8, 2, chunk(b"cICP", bytes([9, transfer, 0, 1]))))
        levels = [red for red, _, _ in swatches.seen(shown)]
        assert (levels[0], levels[-1]) == (0, 255)
        assert levels == sorted(levels)


def test_derivative_and_thumbnail_of_the_sandbox_are_srgb() -> None:
    derived = decode_in_sandbox(file_of(DISPLAY_P3, in_space(DISPLAY_P3, card()), "JPEG"), 400, 120)
    for jpeg in (derived.jpeg, derived.thumbnail):
        assert b"ICC_PROFILE" not in jpeg
        assert difference(decode(jpeg), COLOURS) <= ROUNDING


def test_tiff_follows_its_profile_at_16_bits() -> None:
    data = tiff(P3_PIXELS.astype(np.uint16) * 257, 2, tags={34675: (7, DISPLAY_P3)})
    assert difference(decode(data), COLOURS) <= ROUNDING
