"""Old versions and their vectors are deleted by a command, and never what is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from gpu.models import ModelSwitch, ModelVersion
from gpu.vectors import Features
from matching import index
from products.models import Feature, Product
from tests.helpers.commands import run
from tests.helpers.vectors import add_feature, add_product, embeddings, random_vectors
from tests.matching.learning.test_heads import VIEWS, photographs

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalogue() -> list[Product]:
    """Create products with legacy features, and vectors of an encoder that was used before."""
    products = [add_product(*of_one[:VIEWS]) for of_one in photographs()]
    vectors = random_vectors(len(products))
    for product, features in zip(products, embeddings(vectors, model="old-encoder"), strict=True):
        image = product.images.first()
        assert image is not None
        add_feature(image, features)
    return products


def head(name: str, *, switched: bool) -> None:
    """Store another head with vectors of all images."""
    row = ModelVersion.objects.order_by("pk").first()
    assert row is not None
    stored = list(Feature.objects.filter(kind="head", model_name=row.name))
    row.pk, row.name = None, name
    row.save()
    for feature in stored:
        feature.pk, feature.model_name = None, name
        features = Features.from_embedding(feature.to_features().color, name, "head")
        for column, value in Feature.columns(features).items():
            setattr(feature, column, value)
        feature.save()
    if switched:
        ModelSwitch.objects.create(version=name)


def names() -> set[str]:
    return set(ModelVersion.objects.values_list("name", flat=True))


def vectors_of() -> set[str]:
    return set(Feature.objects.values_list("model_name", flat=True))


def test_only_what_nothing_needs_is_deleted_and_only_after_a_yes(catalogue: list[Product]) -> None:
    assert run("train_head", "--models", "legacy").code == 0
    first = ModelVersion.objects.get().name
    head("oldest", switched=True)
    head("before", switched=True)
    head("used", switched=True)
    head("shadow", switched=False)
    listed = run("prune_models")
    assert listed.out.splitlines()[0].startswith("oldest: head, 160 vectors")
    assert "old-encoder: clip, 40 vectors" in listed.out
    assert "Nothing was deleted." in listed.out
    assert "oldest" in names() & vectors_of()
    assert f"Deleted {160 + 40} vectors." in run("prune_models", "--yes").out
    assert names() == {first, "before", "used", "shadow"}
    assert vectors_of() == {"legacy-1", first, "before", "used", "shadow"}
    assert run("rollback_model").code == 0
    assert "There is nothing to delete." in run("prune_models", "--yes").out


def test_encoder_that_a_needed_head_joins_stays(catalogue: list[Product], tmp_path: Path, settings: Settings) -> None:
    for product in catalogue:
        for image, features in zip(product.images.all()[1:], embeddings(random_vectors(3), "old-encoder"), strict=True):
            add_feature(image, features)
    assert run("train_head", "--models", "old-encoder,legacy").code == 0
    assert "There is nothing to delete." in run("prune_models").out
    assert run("switch_model", ModelVersion.objects.get().name).code == 0
    assert "There is nothing to delete." in run("prune_models").out


def test_configured_encoder_stays_and_search_goes_on(catalogue: list[Product], settings: Settings) -> None:
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": "old-encoder"}
    assert "There is nothing to delete." in run("prune_models").out
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": "clip-ViT-B-32"}
    assert index.search(random_vectors(1), 3, kind="clip", model="old-encoder")
    assert run("prune_models", "--yes").code == 0
    assert index.search(random_vectors(1), 3, kind="clip", model="old-encoder") == []
