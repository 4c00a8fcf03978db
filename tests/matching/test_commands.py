"""The commands match_products and evaluate_matching."""

from __future__ import annotations

import csv
import json

import pytest
from django.contrib.auth.models import User

from matching.models import Match
from matching.review import verdicts
from products.models import Product
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg, truncated
from tests.helpers.tables import write_csv, write_images

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalogue(tmp_path) -> None:
    """Import six historical products H0 to H5 (seeds 1 to 6), and two new ones that look like H0 and H1."""
    write_images(tmp_path, *(f"{number}.jpg" for number in range(6)))
    rows = [{"sku": f"H{number}", "is_historical": "yes", "image": f"{number}.jpg"} for number in range(6)]
    for number in range(2):
        (tmp_path / f"new{number}.jpg").write_bytes(jpeg(number + 1, angle=4))
        rows.append({"sku": f"N{number}", "is_historical": "no", "image": f"new{number}.jpg"})
    assert run("import_products", write_csv(tmp_path / "c.csv", rows)).code == 0


def best(sku: str) -> str:
    return Match.objects.get(product__sku=sku, rank=1).candidate.sku


def unmatch(*skus: str) -> None:
    """Mark these products as unmatched."""
    products = Product.objects.filter(sku__in=skus)
    Match.objects.filter(product__in=products).delete()
    for product in products:
        product.unmatched_since = product.created_at
        product.save(update_fields=["unmatched_since"])


@pytest.mark.usefixtures("catalogue")
class TestMatchProducts:
    def test_unmatched_products_are_matched_by_default(self):
        unmatch("N0")
        ran = run("match_products")
        assert (ran.code, ran.out) == (0, "Matched 1 products.\n")
        assert best("N0") == "H0"
        assert run("match_products").out == "Matched 0 products.\n"

    def test_all_matches_every_new_product_and_no_historical_one(self):
        assert run("match_products", "--all").out == "Matched 2 products.\n"
        assert not Match.objects.filter(product__is_historical=True).exists()

    def test_threshold_and_limit_bound_the_matches(self):
        assert run("match_products", "--all", "--threshold", 0, "--limit", 3).code == 0
        assert Match.objects.filter(product__sku="N0").count() == 3
        assert run("match_products", "--all", "--threshold", 100).code == 0
        assert not Match.objects.exists()

    def test_named_products_are_matched_and_missing_ones_reported(self):
        new = Product.objects.get(sku="N1")
        unmatch("N0", "N1")
        ran = run("match_products", "--ids", new.pk, 987654)
        assert ran.code == 3
        assert "product 987654: " in ran.err
        assert best("N1") == "H1"
        assert not Match.objects.filter(product__sku="N0").exists()

    def test_exit_code_is_1_if_no_product_can_be_matched(self):
        assert run("match_products", "--ids", 987654).code == 1

    def test_verdict_is_kept(self):
        match = Match.objects.get(product__sku="N0", rank=1)
        verdicts.set_verdict(match.pk, "rejected", User.objects.create_user("ada"), "another lid")
        assert run("match_products", "--all").code == 0
        match.refresh_from_db()
        assert (match.review_status, match.note) == ("rejected", "another lid")

    @pytest.mark.parametrize("wrong", [["--threshold", "101"], ["--threshold", "high"], ["--limit", "0"]])
    def test_options_out_of_bounds_are_rejected(self, wrong):
        assert run("match_products", *wrong).code == 1


@pytest.mark.usefixtures("catalogue")
class TestEvaluateMatching:
    def test_recall_is_counted_by_product(self, tmp_path):
        queries = []
        for number in range(3):
            (tmp_path / f"q{number}.jpg").write_bytes(jpeg(number + 1, angle=-3))
            queries.append({"image": f"q{number}.jpg", "sku": f"H{number}"})
        # The fourth query shows another product than its expected one.
        queries.append({"image": str(tmp_path / "q0.jpg"), "sku": "H5"})
        report = tmp_path / "report.json"
        ran = run("evaluate_matching", write_csv(tmp_path / "q.csv", queries), "--json", report)
        figures = json.loads(report.read_text())
        assert ran.code == 0
        assert figures["queries"] == 4
        assert figures["recall@1"] == 0.75
        assert figures["recall@10"] == 1.0  # there are six products
        assert 0.75 < figures["mrr"] < 1.0
        assert figures["seconds_per_query"] > 0
        assert figures["compared_by"] == ["legacy (legacy-1)"]
        assert "recall@1           0.7500" in ran.out

    def test_best_image_of_a_product_decides(self, tmp_path):
        (tmp_path / "back.jpg").write_bytes(jpeg(77))
        (tmp_path / "q.jpg").write_bytes(jpeg(77, angle=3))
        run("import_products", write_csv(tmp_path / "views.csv", [{"sku": "H4", "image": "back.jpg"}]))
        report = tmp_path / "report.json"
        queries = write_csv(tmp_path / "q.csv", [{"image": "q.jpg", "sku": "H4"}])
        assert run("evaluate_matching", queries, "--json", report).code == 0
        assert json.loads(report.read_text())["recall@1"] == 1.0

    def test_unusable_queries_count_as_missed_and_are_reported(self, tmp_path):
        (tmp_path / "q.jpg").write_bytes(jpeg(1))
        (tmp_path / "bad.jpg").write_bytes(truncated(jpeg(2)))
        queries = [
            {"image": "q.jpg", "sku": "H0"},
            {"image": "bad.jpg", "sku": "H1"},
            {"image": "gone.jpg", "sku": "H1"},
            {"image": "q.jpg", "sku": "unknown"},
            {"image": "q.jpg", "sku": "N0"},  # a new product is never a candidate
        ]
        report = tmp_path / "report.json"
        ran = run("evaluate_matching", write_csv(tmp_path / "q.csv", queries), "--json", report)
        figures = json.loads(report.read_text())
        assert ran.code == 3
        assert (figures["queries"], figures["recall@1"], figures["mrr"]) == (5, 0.2, 0.2)
        refused = {query["row"]: query["code"] for query in figures["refused"]}
        assert refused == {3: "image_corrupt", 4: "file_missing", 5: "not_found", 6: "not_found"}
        assert "row 3 (bad.jpg): image_corrupt" in ran.err

    def test_missing_clip_is_reported(self, tmp_path):
        (tmp_path / "q.jpg").write_bytes(jpeg(1))
        queries = write_csv(tmp_path / "q.csv", [{"image": "q.jpg", "sku": "H0"}])
        ran = run("evaluate_matching", queries, "--feature-type", "clip")
        assert ran.code == 1
        assert "download_model" in ran.err

    @pytest.mark.parametrize("content", ["", "image\nq.jpg\n", "image,sku\n"])
    def test_file_without_queries_is_rejected(self, tmp_path, content):
        (tmp_path / "q.csv").write_text(content)
        assert run("evaluate_matching", tmp_path / "q.csv").code == 1

    def test_nothing_is_stored(self, tmp_path, media):
        stored = set(media.rglob("*")), Product.objects.count(), Match.objects.count()
        (tmp_path / "q.jpg").write_bytes(jpeg(1))
        assert run("evaluate_matching", write_csv(tmp_path / "q.csv", [{"image": "q.jpg", "sku": "H0"}])).code == 0
        assert (set(media.rglob("*")), Product.objects.count(), Match.objects.count()) == stored


@pytest.mark.shared_data
def test_real_photographs_are_matched_well_enough_by_legacy_features(shared_data, tmp_path):
    grocery = shared_data / "grocery"
    for table in ("catalogue.csv", "views.csv"):
        assert run("import_products", grocery / table).code == 0
    with (grocery / "queries.csv").open(newline="") as file:
        queries = [row | {"image": str(grocery / row["image"])} for row in csv.DictReader(file)]
    every_third, report = write_csv(tmp_path / "q.csv", queries[::3]), tmp_path / "report.json"
    assert run("evaluate_matching", every_third, "--json", report, "--feature-type", "legacy").code == 0
    figures = json.loads(report.read_text())
    assert figures["queries"] == 99
    assert figures["recall@1"] >= 0.36
    assert figures["recall@5"] >= 0.70
