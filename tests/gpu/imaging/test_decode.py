"""Decoding: accepted formats, error codes, orientation and conversion to RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from gpu.images import decode
from gpu.imaging.errors import MAX_BYTES, ImageProcessingError
from gpu.imaging.formats import ACCEPTED
from tests.helpers.bad_images import VISIBLE
from tests.helpers.sample_images import as_file, decompression_bomb, drawing, noise, truncated, with_orientation


def refusal(source: bytes | Path) -> str:
    with pytest.raises(ImageProcessingError) as caught:
        decode(source)
    return caught.value.code


@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_accepted_format_becomes_rgb_of_its_size(kind):
    image = decode(as_file(drawing(1, (64, 48)), kind))
    assert (image.mode, image.size, image.info) == ("RGB", (64, 48), {})


@pytest.mark.parametrize("kind", ["PPM", "ICO", "EPS", "TGA", "PCX", "JPEG2000", "DDS", "SGI"])
def test_no_other_decoder_of_pillow_is_ever_used(kind):
    assert refusal(as_file(noise(), kind)) in {"unsupported_format", "not_an_image"}


def test_unsupported_image_format_and_non_image_get_different_codes():
    assert refusal(b"8BPS" + bytes(100)) == "unsupported_format"
    assert refusal(b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>") == "unsupported_format"
    assert refusal(b"sku,name\n1,mug\n") == "not_an_image"
    assert refusal(b"") == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "AVIF", "HEIC", "TIFF", "BMP"])
def test_truncated_file_is_rejected(kind):
    assert refusal(truncated(as_file(noise(size=(200, 200)), kind), 0.6)) == "image_corrupt"


def test_size_limits_are_checked_before_pixels_are_decoded(monkeypatch):
    with monkeypatch.context() as decoding:
        decoding.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("the pixels are decoded"))
        assert refusal(decompression_bomb()) == "image_too_large"
    assert refusal(bytes(MAX_BYTES + 1)) == "image_too_large"
    assert refusal(as_file(noise(size=(15, 64)), "PNG")) == "image_too_small"
    assert refusal(as_file(noise(size=(16, 801)), "PNG")) == "image_aspect"
    assert decode(as_file(noise(size=(16, 800)), "PNG")).size == (16, 800)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = drawing(3, (64, 40))
    stored = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    got = decode(with_orientation(stored, orientation, "PNG"))
    assert np.array_equal(np.asarray(got), np.asarray(upright))


def test_transparent_image_is_placed_on_white():
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    got = decode(as_file(image, "PNG"))
    assert got.getpixel((5, 5)) == (0, 0, 255)
    assert got.getpixel((15, 5)) == (255, 255, 255)


def test_sixteen_bit_channels_keep_their_brightness():
    grey = np.full((20, 20), 0x8000, np.uint16)
    grey[:, 10:] = 0xFFFF
    got = decode(as_file(Image.fromarray(grey), "PNG"))
    assert got.getpixel((5, 5)) == (128, 128, 128)
    assert got.getpixel((15, 5)) == (255, 255, 255)


def test_cmyk_and_palettes_become_rgb():
    red = Image.new("CMYK", (20, 20), (0, 255, 255, 0))
    assert decode(as_file(red, "TIFF")).getpixel((3, 3)) == (255, 0, 0)
    assert decode(as_file(drawing(2).quantize(8), "PNG")).mode == "RGB"


def test_draft_is_never_smaller_than_the_requested_side():
    photograph = as_file(drawing(1, (1600, 1200)), quality=90)
    assert decode(photograph, draft_side=448).size == (800, 600)
    assert decode(photograph, draft_side=700).size == (1600, 1200)


def test_missing_files_raise_an_error_with_a_code(tmp_path):
    assert refusal(tmp_path / "gone.jpg") == "file_missing"
    assert refusal(tmp_path) == "file_unreadable"


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about files that it then rejects
@pytest.mark.parametrize("part", ["bad", "odd"])
def test_files_of_public_corpora_are_decoded_or_rejected_with_a_code(part, shared_data):
    rules = {"image_too_large", "image_too_small", "image_aspect"}
    wrong = []
    for path in sorted((shared_data / "images" / part).iterdir()):
        try:
            outcome = decode(path).mode
        except ImageProcessingError as error:
            outcome = error.code
        refused = rules | {"image_corrupt", "unsupported_format"}
        if outcome not in (rules | {"RGB"} if part == "odd" or path.name in VISIBLE else refused):
            wrong.append((path.name, outcome))
    assert wrong == []
