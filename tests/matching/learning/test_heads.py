"""A head is learned from the catalogue, kept in the shadow, switched to and rolled back, by the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_django import Settings

from gpu.encoders.weights import model_id
from gpu.models import ModelSwitch, ModelVersion
from gpu.vectors import Features
from matching import service
from matching.learning import views
from matching.models import Match
from matching.review import verdicts
from products import model_versions
from products.models import Feature, Product, ProductImage
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images
from tests.helpers.vectors import add_product, legacy_features

pytestmark = pytest.mark.django_db

PRODUCTS, VIEWS = 40, 4


def photographs(seed: int = 0) -> list[list[Features]]:
    """Return legacy features of views: what a product looks like is drowned in the light it was photographed in.

    The light changes many bins in the same few ways, so a head can learn to leave it out.
    """
    rng = np.random.default_rng(seed)
    lights = rng.normal(size=(3, 256)) * 40
    looks = rng.normal(size=(PRODUCTS, 256)) * 14

    def view(look: np.ndarray) -> Features:
        plain = legacy_features(1)[0]
        bins = 128 + look + rng.normal(size=3) @ lights + rng.normal(size=256) * 4
        return Features(plain.kind, plain.model_name, bins.clip(0, 255).astype(np.uint8), plain.shape, plain.texture)

    return [[view(look) for _ in range(VIEWS + 1)] for look in looks]


@pytest.fixture
def catalogue() -> list[Product]:
    """Create products of four views, and a new product with a fifth view of each of the first five."""
    views_of_all = photographs()
    products = [add_product(*views_of_one[:VIEWS]) for views_of_one in views_of_all]
    for views_of_one in views_of_all[:5]:
        add_product(views_of_one[VIEWS], historical=False)
    return products


def arrivals() -> list[Product]:
    return list(Product.objects.filter(is_historical=False).order_by("pk"))


def trained(*options: str, tmp_path: Path) -> dict[str, Any]:
    report = tmp_path / "report.json"
    result = run("train_head", "--json", report, *options)
    assert result.code == 0, result.err
    figures: dict[str, Any] = json.loads(report.read_text())
    return figures


def first_hits() -> list[tuple[str, int]]:
    """Return the kind and the best candidate of each arrival."""
    results = [service.find_matches(product.pk, threshold=0, limit=1) for product in arrivals()]
    return [(result.feature_type, result.candidates[0].product.pk) for result in results]


def test_head_finds_products_that_the_light_hides(catalogue: list[Product], tmp_path: Path) -> None:
    expected = [product.pk for product in catalogue[:5]]
    before = [pk for _, pk in first_hits()]
    figures = trained("--adopt", tmp_path=tmp_path)
    assert figures["adopted"]
    assert figures["recall@1"] == figures["after"]["recall@1"] > figures["before"]["recall@1"] + 0.2
    assert figures["views"] == PRODUCTS * VIEWS
    assert [kind for kind, _ in first_hits()] == ["head"] * 5
    right = sum(found == true for (_, found), true in zip(first_hits(), expected, strict=True))
    assert right > sum(found == true for found, true in zip(before, expected, strict=True))


def test_shadow_does_not_answer_before_the_switch_and_not_after_the_rollback(
    catalogue: list[Product], tmp_path: Path
) -> None:
    without = first_hits()
    version = trained(tmp_path=tmp_path)["version"]
    assert first_hits() == without
    assert f"{version}: head of legacy-1" in run("list_models").out
    lines = run("list_models").out.splitlines()
    words = ("in use", "in the shadow", "kept")
    states = {line.split(":")[0]: next(word for word in words if f", {word}" in line) for line in lines}
    assert states == {"clip-ViT-B-32": "in the shadow", "legacy-1": "in use", version: "in the shadow"}
    assert run("switch_model", version).code == 0
    assert {kind for kind, _ in first_hits()} == {"head"}
    assert run("rollback_model").code == 0
    assert first_hits() == without
    assert run("rollback_model").code == 0  # back to the head
    assert {kind for kind, _ in first_hits()} == {"head"}


def test_same_data_gives_the_same_version_once(catalogue: list[Product], tmp_path: Path) -> None:
    assert trained(tmp_path=tmp_path)["version"] == trained(tmp_path=tmp_path)["version"]
    assert ModelVersion.objects.count() == 1
    assert Feature.objects.filter(kind="head").count() == PRODUCTS * VIEWS + 5


def test_new_images_get_the_vector_of_the_head_when_they_are_embedded(tmp_path: Path) -> None:
    names = [f"P{number}_{view}.jpg" for number in range(24) for view in range(2)]
    write_images(tmp_path / "in", *names)
    rows = [{"sku": name.split("_")[0], "image": name} for name in names]
    table = write_csv(tmp_path / "in" / "products.csv", rows)
    assert run("import_products", table, "--historical").code == 0
    version = trained(tmp_path=tmp_path)["version"]
    assert run("switch_model", version).code == 0
    (tmp_path / "more.jpg").write_bytes(jpeg(99))
    more = write_csv(tmp_path / "more.csv", [{"sku": "MORE", "image": "more.jpg"}])
    assert run("import_products", more, "--historical").code == 0
    image = Product.objects.get(sku="MORE").images.get()
    assert image.features.filter(kind="head", model_name=version).exists()
    queries = write_csv(tmp_path / "q.csv", [{"image": "more.jpg", "sku": "MORE"}])
    report = tmp_path / "evaluation.json"
    assert run("evaluate_matching", queries, "--json", report).code == 0
    figures = json.loads(report.read_text())
    assert figures["recall@1"] == 1
    assert figures["compared_by"] == [f"head ({version})"]
    assert run("evaluate_matching", queries, "--version", "encoder", "--json", report).code == 0
    assert json.loads(report.read_text())["compared_by"] == ["legacy (legacy-1)"]


def test_version_that_does_not_cover_the_catalogue_is_refused(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained(tmp_path=tmp_path)["version"]
    image = catalogue[0].images.first()
    assert image is not None
    Feature.objects.filter(image=image).delete()
    result = run("switch_model", version)
    assert result.code == 1
    assert "1 catalogue images" in result.err
    assert not ModelSwitch.objects.exists()


def test_images_that_the_head_lacks_are_filled_by_the_switch(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained(tmp_path=tmp_path)["version"]
    Feature.objects.filter(kind="head", product=catalogue[0]).delete()
    assert run("switch_model", version).code == 0
    assert Feature.objects.filter(kind="head", product=catalogue[0]).count() == VIEWS


def test_unknown_version_is_refused(catalogue: list[Product]) -> None:
    for command in (["switch_model", "head-nothing"], ["rollback_model"]):
        result = run(*command)
        assert result.code == 1
        assert "There is no version" in result.err or "never switched" in result.err


@pytest.mark.parametrize(
    "images", [[], [1, 1], [2, 2], [2] * 5], ids=["empty catalogue", "one image each", "two products", "five products"]
)
def test_too_little_to_learn_from_is_one_sentence(images: list[int]) -> None:
    for count in images:
        add_product(*legacy_features(count))
    result = run("train_head")
    assert result.code == 1
    assert "have two images or more" in result.err
    assert not ModelVersion.objects.exists()


def test_confirmed_images_count_as_views_and_contradicting_ones_do_not(tmp_path: Path) -> None:
    views_of_all = photographs()
    products = [add_product(views_of_one[0]) for views_of_one in views_of_all]
    new = [add_product(views_of_one[1], historical=False) for views_of_one in views_of_all]
    assert run("train_head").code == 1  # one image each
    reviewer = user_in("reviewer")

    def confirm(product: Product, candidate: Product) -> None:
        match = Match.objects.create(
            product=product, candidate=candidate, similarity_score=60, feature_type="legacy", model_name="legacy-1",
            rank=1,
        )  # fmt: skip
        verdicts.set_verdict(match.pk, "confirmed", reviewer, "")

    for product, candidate in zip(new, products, strict=True):
        confirm(product, candidate)
    assert trained(tmp_path=tmp_path)["views"] == 2 * PRODUCTS
    confirm(new[0], products[1])
    assert trained(tmp_path=tmp_path)["views"] == 2 * PRODUCTS - 1


def test_new_products_are_matched_again_after_a_switch(catalogue: list[Product], tmp_path: Path) -> None:
    assert run("match_products", "--all").code == 0
    version = trained(tmp_path=tmp_path)["version"]
    assert not Product.objects.filter(unmatched_since__isnull=False).exists()
    assert run("switch_model", version).code == 0
    assert Product.objects.filter(unmatched_since__isnull=False).count() == 5
    assert run("match_products").code == 0
    assert set(Match.objects.values_list("feature_type", "model_name")) == {("head", version)}


def test_only_needed_versions_are_kept(catalogue: list[Product], tmp_path: Path) -> None:
    versions = []
    for number in range(4):
        add_product(*legacy_features(2, seed=number))
        versions.append(trained(tmp_path=tmp_path)["version"])
        if number < 2:
            assert run("switch_model", versions[-1]).code == 0
    assert sorted(ModelVersion.objects.values_list("name", flat=True)) == sorted([*versions[:2], versions[3]])
    stored = set(Feature.objects.filter(kind="head").values_list("model_name", flat=True))
    assert stored == {*versions[:2], versions[3]}


def test_damaged_vectors_are_left_out_of_learning(catalogue: list[Product], tmp_path: Path) -> None:
    damaged = Feature.objects.filter(product=catalogue[0]).first()
    assert damaged is not None
    Feature.objects.filter(pk=damaged.pk).update(texture_features=bytes(256))
    assert trained(tmp_path=tmp_path)["views"] == PRODUCTS * VIEWS - 1


@pytest.mark.usefixtures("with_clip")
def test_head_goes_on_answering_when_clip_model_changes_and_doctor_shows_both(
    tmp_path: Path, settings: Settings, tiny_clip: Path
) -> None:
    names = [f"P{number}_{view}.jpg" for number in range(21) for view in range(2)]
    write_images(tmp_path / "in", *names)
    rows = [{"sku": name.split("_")[0], "image": name} for name in names]
    assert run("import_products", write_csv(tmp_path / "in" / "t.csv", rows), "--historical").code == 0
    figures = trained(tmp_path=tmp_path)
    assert figures["made_of"][1] == "legacy-1"
    assert run("switch_model", figures["version"]).code == 0
    product = add_arrival(tmp_path)
    assert service.find_matches(product.pk, threshold=0).feature_type == "head"
    assert f"{figures['version']} answers" in run("doctor").out
    other = shutil.copytree(tiny_clip, tmp_path / "other")
    config = json.loads((other / "0_CLIPModel" / "preprocessor_config.json").read_text())
    (other / "0_CLIPModel" / "preprocessor_config.json").write_text(json.dumps(config | {"note": "another"}))
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": str(other)}
    assert run("reindex").code == 0
    assert service.find_matches(product.pk, threshold=0).feature_type == "head"
    assert f"{figures['made_of'][0]} is in use, but CLIP_MODEL is {model_id()}" in run("doctor").out
    assert run("switch_model", model_id()).code == 0
    result = service.find_matches(product.pk, threshold=0)
    assert (result.feature_type, result.model_name) == ("clip", model_id())


def add_arrival(tmp_path: Path) -> Product:
    (tmp_path / "arrival.jpg").write_bytes(jpeg(7))
    table = write_csv(tmp_path / "arrival.csv", [{"sku": "ARRIVAL", "image": "arrival.jpg"}])
    assert run("import_products", table).code == 0
    return Product.objects.get(sku="ARRIVAL")


def decide(product: Product, candidate: Product, status: str) -> None:
    match = Match.objects.create(
        product=product, candidate=candidate, similarity_score=60, feature_type="legacy", model_name="legacy-1", rank=1
    )
    verdicts.set_verdict(match.pk, status, user_in("reviewer"), "")


def test_only_rejections_are_nothing_to_learn_from(catalogue: list[Product]) -> None:
    for product in arrivals():
        decide(product, catalogue[-1], "rejected")
    result = run("train_head", "--from-decisions")
    assert result.code == 1
    assert "Only 0 catalogue products have two images or more" in result.err
    assert {kind for kind, _ in first_hits()} == {"legacy"}


def test_catalogue_of_one_category_learns_and_reports_that_category(tmp_path: Path, catalogue: list[Product]) -> None:
    Product.objects.update(category="mugs")
    figures = trained(tmp_path=tmp_path)
    assert figures["by_category"]["mugs"]["products"] == PRODUCTS
    assert figures["by_category"]["mugs"]["gain"] == pytest.approx(figures["gain"])
    assert len(figures["data_hash"]) == 64


def test_product_with_thousands_of_images_counts_with_some_of_them(
    tmp_path: Path, catalogue: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_VIEWS_PER_PRODUCT", 5)
    add_product(*photographs()[0], *photographs(1)[0])  # ten images
    assert trained(tmp_path=tmp_path)["views"] == PRODUCTS * VIEWS + 5


def test_product_with_5000_images_counts_with_200_of_them(tmp_path: Path, catalogue: list[Product]) -> None:
    product = add_product(*photographs()[0])
    [feature] = product.features.order_by("pk")[:1]
    ProductImage.objects.bulk_create(
        [
            ProductImage(
                product=product, file=f"{number}.jpg", sha256=f"{number:064}", width=9, height=9, state="ready",
                embedded_with=feature.model_name,
            )
            for number in range(5_000)
        ]
    )  # fmt: skip
    columns = {name: getattr(feature, name) for name in ("kind", "model_name", "dim", "color_features")}
    columns |= {name: getattr(feature, name) for name in ("shape_features", "texture_features", "checksum")}
    lacking = product.images.filter(features=None)
    Feature.objects.bulk_create([Feature(product=product, image=image, **columns) for image in lacking])
    assert trained(tmp_path=tmp_path)["views"] == PRODUCTS * VIEWS + views.MAX_VIEWS_PER_PRODUCT


def test_head_in_use_goes_on_answering_if_there_is_too_little_to_learn_from(
    catalogue: list[Product], tmp_path: Path
) -> None:
    version = trained("--adopt", tmp_path=tmp_path)["version"]
    Product.objects.filter(pk__in=[product.pk for product in catalogue[5:]]).delete()
    for product in arrivals():
        decide(product, catalogue[0], "rejected")
    result = run("train_head", "--adopt")
    assert result.code == 1
    assert "Only 5 catalogue products have two images or more" in result.err
    assert {kind for kind, _ in first_hits()} == {"head"}
    assert model_versions.answering().name == version


def test_head_of_named_models_must_beat_the_head_in_use(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained("--adopt", tmp_path=tmp_path)["version"]
    rng = np.random.default_rng(0)
    for image in ProductImage.objects.select_related("product"):
        look = np.random.default_rng(image.product_id).normal(size=16)  # better than nothing, worse than the head
        vector = (look + 3 * rng.normal(size=16)).astype(np.float32)
        Feature.objects.create(
            image=image, product=image.product, **Feature.columns(Features.from_embedding(vector, "weak"))
        )
    figures = trained("--models", "weak", "--adopt", tmp_path=tmp_path)
    assert figures["compared_with"] == version
    assert figures["gain"] < 0
    assert not figures["adopted"]
    assert model_versions.answering().name == version


def test_head_finds_a_product_by_the_confirmed_image_of_another_one(catalogue: list[Product], tmp_path: Path) -> None:
    """An image that is like an arrival finds the catalogue product that the arrival was confirmed to be."""
    assert run("switch_model", trained(tmp_path=tmp_path)["version"]).code == 0
    strange = photographs(7)[0]
    arrival, again = add_product(strange[0], historical=False), add_product(strange[0], historical=False)
    head = model_versions.in_use()
    assert head is not None
    model_versions.fill(head)

    def best() -> service.Candidate:
        return service.find_matches(again.pk, threshold=0, limit=1).candidates[0]

    assert best().score < 99
    decide(arrival, catalogue[9], "confirmed")
    assert (best().product, best().image.product) == (catalogue[9], catalogue[9])
    assert best().score > 99
    assert len({found.product.pk for found in service.find_matches(again.pk, threshold=0, limit=10).candidates}) == 10
    decide(arrival, catalogue[8], "confirmed")  # contradicting: neither is believed
    assert best().score < 99
    verdicts.set_verdict(Match.objects.get(candidate=catalogue[8]).pk, "pending", user_in("reviewer"), "")
    assert best().product == catalogue[9]
    assert run("switch_model", "encoder").code == 0  # without a head only the catalogue is searched
    assert best().score < 99
