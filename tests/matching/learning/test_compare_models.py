"""Two versions are compared by the command: recall with intervals, pairs, scores and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matching.learning.intervals import paired_bootstrap, wilson
from matching.models import Match
from matching.review import verdicts
from products.models import Product
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images
from tests.helpers.vectors import add_product
from tests.matching.learning.test_heads import PRODUCTS, VIEWS, photographs, trained

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalogue() -> list[Product]:
    """Create products of four views, and new products with a fifth view of the first ten."""
    views = photographs()
    products = [add_product(*of_one[:VIEWS]) for of_one in views]
    for of_one in views[:10]:
        add_product(of_one[VIEWS], historical=False)
    return products


def compared(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    path = tmp_path / "comparison.json"
    result = run("compare_models", *arguments, "--json", path)
    assert result.code == 0, result.err
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def confirm(product: Product, candidate: Product) -> None:
    match = Match.objects.create(
        product=product, candidate=candidate, similarity_score=60, feature_type="legacy", model_name="legacy-1", rank=1
    )
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"), "")


def test_head_is_compared_on_products_that_it_is_learned_without(catalogue: list[Product], tmp_path: Path) -> None:
    figures = trained(tmp_path=tmp_path)
    report = compared(tmp_path, "encoder", figures["version"])
    assert (report["a"], report["b"]) == ("legacy-1", figures["version"])
    (views,) = report["sets"]
    assert (views["name"], views["queries"], views["products"]) == ("views", PRODUCTS * VIEWS, PRODUCTS)
    assert views["better"] == "b"
    assert views["difference"]["recall@1"]["low"] > 0
    # The head as it is would find nearly all, because it has seen these very images.
    assert views["b"]["recall@1"]["value"] < 0.95
    for side in "ab":
        one = views[side]["recall@1"]
        assert one["low"] < one["value"] < one["high"]
    gain = views["b"]["recall@1"]["value"] - views["a"]["recall@1"]["value"]
    assert views["difference"]["recall@1"]["value"] == pytest.approx(gain, abs=1e-3)
    assert views["gained"] - views["lost"] == pytest.approx(gain * PRODUCTS * VIEWS, abs=0.5)


def test_pairs_name_the_image_the_right_one_and_the_wrong_one(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained(tmp_path=tmp_path)["version"]
    (views,) = compared(tmp_path, "encoder", version)["sets"]
    of_product = {image.pk: product.pk for product in catalogue for image in product.images.all()}
    assert 0 < len(views["gained_pairs"]) <= 24
    for pair in views["gained_pairs"]:
        assert of_product[pair["image"]] == of_product[pair["right_image"]] == pair["product"]
        assert of_product[pair["found_image"]] != pair["product"]
        assert pair["right_image"] != pair["image"]
        assert pair["rank_a"] > pair["rank_b"] == 1


def test_confirmed_matches_are_a_set_of_their_own(catalogue: list[Product], tmp_path: Path) -> None:
    new = list(Product.objects.filter(is_historical=False).order_by("pk"))
    for product, candidate in zip(new, catalogue, strict=False):
        confirm(product, candidate)
    version = trained(tmp_path=tmp_path)["version"]
    report = compared(tmp_path, "encoder", version)
    decisions = {one["name"]: one for one in report["sets"]}["decisions"]
    assert decisions["queries"] == decisions["products"] == 10
    assert decisions["gallery_products"] == PRODUCTS
    assert decisions["b"]["recall@5"]["value"] >= decisions["a"]["recall@5"]["value"]


def test_cost_of_both_is_named(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained(tmp_path=tmp_path)["version"]
    cost = compared(tmp_path, version, "legacy")["cost"]
    assert cost["b"]["bytes_per_vector"] == 540
    assert cost["a"]["bytes_per_vector"] == 4 * cost["a"]["dimensions"]
    assert all(0 < cost[side]["ms_per_query"] < 1000 for side in "ab")


def test_same_comparison_gives_the_same_figures(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained(tmp_path=tmp_path)["version"]
    assert compared(tmp_path, "encoder", version)["sets"] == compared(tmp_path, "encoder", version)["sets"]


def test_queries_are_searched_in_the_whole_catalogue(tmp_path: Path) -> None:
    names = [f"P{number}_{view}.jpg" for number in range(24) for view in range(2)]
    write_images(tmp_path / "in", *names)
    rows = [{"sku": name.split("_")[0], "image": name} for name in names]
    assert run("import_products", write_csv(tmp_path / "in" / "t.csv", rows), "--historical").code == 0
    version = trained(tmp_path=tmp_path)["version"]
    queries = write_csv(tmp_path / "in" / "q.csv", rows[::2])
    report = compared(tmp_path, "encoder", version, queries)
    (one,) = report["sets"]
    assert (one["name"], one["queries"], one["gallery_products"]) == ("queries", 24, 24)
    assert one["a"]["recall@1"]["value"] == one["b"]["recall@1"]["value"] == 1  # the images themselves
    assert one["better"] == ""
    assert report["cost"]["a"]["ms_per_query"] > 0


def test_bad_rows_are_named_and_the_others_counted(tmp_path: Path) -> None:
    write_images(tmp_path, *[f"{number}_{view}.jpg" for number in range(22) for view in range(2)])
    rows = [{"sku": f"P{number}", "image": f"{number}_{view}.jpg"} for number in range(22) for view in range(2)]
    assert run("import_products", write_csv(tmp_path / "t.csv", rows), "--historical").code == 0
    version = trained(tmp_path=tmp_path)["version"]
    (tmp_path / "broken.jpg").write_bytes(jpeg(1)[:100])
    bad = [{"sku": "P1", "image": "broken.jpg"}, {"sku": "NONE", "image": "1_0.jpg"}]
    queries = write_csv(tmp_path / "q.csv", [*rows[:4], *bad])
    result = run("compare_models", "encoder", version, queries)
    assert result.code == 3
    assert "row 6: " in result.err
    assert "row 7: No catalogue product has the SKU 'NONE'." in result.err
    assert "queries: 4 queries for 2 of 22 products" in result.out


def test_what_cannot_be_compared_is_one_sentence(catalogue: list[Product], tmp_path: Path) -> None:
    version = trained(tmp_path=tmp_path)["version"]
    for pair, text in (
        (("encoder", "head-none"), "There is no version 'head-none'"),
        ((version, version), "are the same version"),
        (("encoder", "legacy"), "are the same version"),
    ):
        result = run("compare_models", *pair)
        assert result.code == 1
        assert text in result.err


def test_products_of_one_image_without_decisions_cannot_be_compared(tmp_path: Path) -> None:
    for of_one in photographs():
        add_product(*of_one[:2])
    version = trained(tmp_path=tmp_path)["version"]
    for product in Product.objects.all():
        product.images.last().delete()  # type: ignore[union-attr]
    result = run("compare_models", "legacy", version)
    assert result.code == 1
    assert "No product can be searched" in result.err


def test_intervals_have_the_published_values() -> None:
    low, high = wilson(8, 10)  # Wilson's interval of 8 in 10
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    gains = np.repeat([1.0, 0.0, 0.0, -1.0], 100)
    low, high = paired_bootstrap(gains, np.arange(400))
    assert low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.5 / 400), rel=0.1)
