"""The database rejects invalid vectors, even from plain SQL."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import IntegrityError, transaction

from gpu.vectors import CLIP, LEGACY, LEGACY_MODEL, SHAPE_DIM
from products.models import Feature, ProductImage
from tests.helpers.rows import make_product

pytestmark = pytest.mark.django_db
DIM = 8


@pytest.fixture
def image() -> ProductImage:
    return make_product().images.get()


def embedding(*changed: float) -> bytes:
    vector = np.full(DIM, DIM**-0.5, "<f4")
    vector[DIM - len(changed) :] = changed
    return vector.tobytes()


def store(image: ProductImage, color: bytes, **changed: object) -> Feature:
    columns = {"kind": CLIP, "model_name": "a-model", "dim": DIM, "color_features": color} | changed
    with transaction.atomic():
        return Feature.objects.create(product=image.product, image=image, **columns)


@pytest.mark.parametrize(
    "color",
    [
        embedding(np.nan),
        embedding(-np.nan),
        embedding(np.inf),
        embedding(-np.inf),
        bytes(4 * DIM),
        b"",
        embedding()[:-4],
    ],
    ids=["NaN", "negative NaN", "infinite", "negative infinite", "zero", "empty", "too short"],
)
def test_invalid_embedding_is_rejected_by_the_database(image, color):
    with pytest.raises(IntegrityError):
        store(image, color)
    feature = store(image, embedding())
    with pytest.raises(IntegrityError), transaction.atomic():
        Feature.objects.filter(pk=feature.pk).update(color_features=color)
    feature.refresh_from_db()
    assert bytes(feature.color_features) == embedding()


def test_extreme_but_finite_numbers_are_accepted(image):
    # The bytes of NaN across two numbers, the largest finite number, and the smallest.
    assert store(image, np.array([0xC0000000, 0x0000007F] * 4, "<u4").tobytes()).pk
    assert store(image, embedding(float(np.finfo("<f4").max), float(np.finfo("<f4").tiny)), model_name="another").pk


def test_shape_features_must_be_finite_too(image):
    shape = np.zeros(SHAPE_DIM, "<f4")
    legacy = {"kind": LEGACY, "model_name": LEGACY_MODEL, "dim": 256, "texture_features": bytes(256)}
    with pytest.raises(IntegrityError):
        store(image, bytes(256), shape_features=(shape * np.nan).tobytes(), **legacy)
    assert store(image, bytes(256), shape_features=shape.tobytes(), **legacy).pk
