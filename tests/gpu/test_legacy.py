"""Legacy features: colour, shape and texture, compared with OpenCV and tested for their purpose."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from gpu.legacy import color_histogram, extract_legacy, hu_moments, local_binary_patterns, log_scaled, quantise
from gpu.vectors import LEGACY_MODEL, Features
from matching.similarity import compute_legacy_similarity
from tests.helpers.sample_images import drawing, noise


def plain(color: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, color)


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("size", [(16, 16), (16, 800), (800, 16), (256, 256), (1600, 1200), (17, 31)])
def test_features_of_any_image_size_fit_the_storage(size):
    features = extract_legacy(noise(3, size))

    assert (features.kind, features.model_name) == ("legacy", LEGACY_MODEL)
    assert [part.shape for part in (features.color, features.shape, features.texture)] == [(256,), (7,), (256,)]
    assert [part.dtype.name for part in (features.color, features.shape, features.texture)] == [
        "uint8",
        "float32",
        "uint8",
    ]
    color, shape, texture = features.to_blobs()
    back = Features.from_blobs("legacy", LEGACY_MODEL, color, shape, texture)
    assert compute_legacy_similarity(features, back) == pytest.approx(100)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0)])
def test_single_colour_image_has_few_bins_and_finite_features(color):
    features = extract_legacy(plain(color))

    assert 1 <= np.count_nonzero(features.color) <= 8
    assert np.isfinite(features.shape).all()
    # Every neighbour is as bright as the pixel: all eight bits are set.
    assert features.texture.argmax() == 255
    assert np.count_nonzero(features.texture) == 1


def test_features_do_not_depend_on_the_image_mode():
    grey = noise(5).convert("L")

    from_grey, from_rgb = extract_legacy(grey), extract_legacy(grey.convert("RGB"))

    assert from_grey.to_blobs() == from_rgb.to_blobs()


def test_greys_have_thirty_two_bins_of_their_own():
    levels = [int(extract_legacy(plain((level, level, level))).color.argmax()) for level in range(0, 256, 8)]

    assert levels == list(range(224, 256))


def test_hue_bin_does_not_depend_on_brightness():
    bright = [extract_legacy(plain(color)).color.argmax() for color in [(255, 0, 0), (0, 255, 0), (0, 0, 255)]]
    dark = [extract_legacy(plain(color)).color.argmax() for color in [(100, 0, 0), (0, 100, 0), (0, 0, 100)]]

    # Eight bins per hue: four saturations by two values.
    assert len({bin_ // 8 for bin_ in bright}) == 3
    assert [bin_ // 8 for bin_ in bright] == [bin_ // 8 for bin_ in dark]
    assert bright != dark


def test_colour_histogram_weighs_the_centre_of_the_image_most():
    def share_of_red(box: tuple[int, int, int, int]) -> float:
        image = plain((0, 0, 255))
        image.paste((255, 0, 0), box)
        histogram = color_histogram(np.asarray(image.convert("HSV")))
        assert histogram.sum() == pytest.approx(1)
        return float(histogram[extract_legacy(plain((255, 0, 0))).color > 0].sum())

    assert share_of_red((0, 0, 32, 64)) == pytest.approx(0.5)
    assert share_of_red((24, 24, 40, 40)) > 3 * share_of_red((0, 0, 16, 16))


def test_colour_between_two_bins_is_shared_by_both():
    scores = [
        compute_legacy_similarity(extract_legacy(plain((level, level, level))), extract_legacy(plain((level + 1,) * 3)))
        for level in range(100, 140)
    ]

    assert min(scores) > 80


def test_quantised_rare_bins_differ_from_empty_ones():
    histogram = np.array([0.0, 1e-4, 0.25, 1.0])

    assert quantise(histogram).tolist() == [0, 3, 128, 255]


@pytest.mark.parametrize("size", [(64, 64), (120, 40), (33, 57)])
def test_hu_moments_equal_those_of_opencv(size):
    grey = np.asarray(drawing(2, size).convert("L"))

    assert hu_moments(grey) == pytest.approx(cv2.HuMoments(cv2.moments(grey)).ravel(), rel=1e-6, abs=1e-25)


def test_hu_moments_are_invariant_to_translation_rotation_and_scale():
    def shape(left: int, top: int, scale: int = 1, turned: bool = False) -> np.ndarray:
        canvas = np.zeros((200, 200), np.uint8)
        wedge = np.kron(np.tri(24, 40, dtype=np.uint8), np.ones((scale, scale), np.uint8)) * 200
        wedge = np.rot90(wedge) if turned else wedge
        canvas[top : top + wedge.shape[0], left : left + wedge.shape[1]] = wedge
        return canvas

    there = hu_moments(shape(10, 20))
    assert hu_moments(shape(90, 120)) == pytest.approx(there)
    assert hu_moments(shape(60, 50, turned=True)) == pytest.approx(there)
    # A scaled shape of pixels is only nearly the same shape.
    assert hu_moments(shape(10, 20, scale=3))[:4] == pytest.approx(there[:4], rel=0.02)


def test_moments_are_stored_as_signed_logarithms_and_tiny_ones_as_zero():
    assert log_scaled(np.array([1e-3, -1e-5, 0.0, 1e-40])).tolist() == [3.0, -5.0, 0.0, 0.0]
    assert hu_moments(np.zeros((8, 8), np.uint8)).tolist() == [0.0] * 7


@pytest.mark.parametrize("radius", [1, 3])
def test_local_binary_patterns_equal_the_definition(radius):
    grey = np.asarray(noise(9, (20, 15)).convert("L"))
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]

    patterns = local_binary_patterns(grey, radius)

    assert patterns.shape == (15 - 2 * radius, 20 - 2 * radius)
    for row, column in np.ndindex(patterns.shape):
        y, x = row + radius, column + radius
        expected = sum(
            2**bit for bit, (dy, dx) in enumerate(around) if grey[y + radius * dy, x + radius * dx] >= grey[y, x]
        )
        assert patterns[row, column] == expected


def test_texture_does_not_depend_on_even_changes_of_brightness():
    grey = np.asarray(noise(4).convert("L")) // 2

    assert np.array_equal(local_binary_patterns(grey, 3), local_binary_patterns(grey + 60, 3))


def test_stored_image_scores_as_its_original():
    image = drawing(6, (640, 480))

    assert compute_legacy_similarity(extract_legacy(image), extract_legacy(recompressed(image, 92))) > 95


def test_another_photograph_of_a_product_scores_above_every_other_product():
    catalogue = [extract_legacy(drawing(seed, (256, 256))) for seed in range(20)]
    for seed in range(20):
        photograph = drawing(seed, (300, 300), angle=12, light=0.85)
        photograph = ImageEnhance.Contrast(recompressed(photograph, 60)).enhance(1.1)
        query = extract_legacy(photograph)
        scores = [compute_legacy_similarity(query, features) for features in catalogue]
        assert int(np.argmax(scores)) == seed
