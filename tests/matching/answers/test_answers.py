"""A match gives an answer: probabilities of the candidates and of none, with reasons, learned by `calibrate`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from gpu.vectors import Features
from matching import service
from matching.answers import calibration, figures, wording
from matching.models import Calibration, Match, ProductAnswer
from matching.review import verdicts
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.commands import run
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.vectors import add_product, legacy_features

pytestmark = pytest.mark.django_db

PRODUCTS, VIEWS = 30, 3
NOISE = 38  # the first candidate is not always the right one


def photographs(count: int, views: int, seed: int = 0) -> list[list[Features]]:
    """Return legacy features of views of products: each differs from its product by noise."""
    rng = np.random.default_rng(seed)
    plain = legacy_features(1)[0]
    common = rng.normal(size=256) * 28  # products of one catalogue look alike

    def view(look: np.ndarray) -> Features:
        bins = (128 + common + look + rng.normal(size=256) * NOISE).clip(0, 255).astype(np.uint8)
        return Features(plain.kind, plain.model_name, bins, plain.shape, plain.texture)

    return [[view(look) for _ in range(views)] for look in rng.normal(size=(count, 256)) * 20]


@pytest.fixture
def catalogue() -> list[Product]:
    """Create catalogue products of three views, arrivals of the first ten, and ten arrivals that it lacks."""
    shown = photographs(PRODUCTS + 10, VIEWS + 1)
    products = [add_product(*views[:VIEWS]) for views in shown[:PRODUCTS]]
    for views in shown[:10] + shown[PRODUCTS:]:
        add_product(views[VIEWS], historical=False)
    return products


def arrivals() -> list[Product]:
    return list(Product.objects.filter(is_historical=False).order_by("pk"))


def answered(product: Product, **options: Any) -> dict[str, Any]:
    response = client_of("uploader").post(f"/api/products/{product.pk}/match", {"threshold": 0, **options})
    assert response.status_code == 200, response.json()
    body: dict[str, Any] = response.json()
    return body


def odds_of(match: dict[str, Any]) -> float:
    return float(match["probability"] / (1 - match["probability"]))


def test_newcomer_of_the_catalogue_changes_the_answer_of_an_open_case(catalogue: list[Product]) -> None:
    assert run("calibrate").code == 0
    arrival = arrivals()[10]
    before = answered(arrival)
    newcomer = add_product(*photographs(PRODUCTS + 10, VIEWS + 1)[PRODUCTS][:VIEWS])
    Product.objects.filter(is_historical=False).update(unmatched_since=None)
    Product.objects.filter(pk=newcomer.pk).update(unmatched_since=timezone.now())
    assert run("match_products").code == 0
    answer, best = ProductAnswer.objects.get(product=arrival), arrival.matches.get(rank=1)
    assert arrival.matches.count() == 10
    assert answer.not_in_catalogue is not None
    assert (best.candidate, answer.not_in_catalogue < before["not_in_catalogue"]) == (newcomer, True)
    shown = sum(match.probability or 0 for match in arrival.matches.all())
    assert 0.9 < shown + answer.not_in_catalogue < 1.001


def test_without_calibration_a_person_should_look(catalogue: list[Product]) -> None:
    body = answered(arrivals()[0])
    assert (body["answer"], body["not_in_catalogue"]) == ("look", None)
    assert {(match["probability"], str(match["evidence"])) for match in body["matches"]} == {(None, "[]")}


def test_probabilities_add_to_one_and_rise_with_the_truth(catalogue: list[Product]) -> None:
    assert run("calibrate").code == 0
    known: list[float] = []
    unknown: list[float] = []
    for place, arrival in enumerate(arrivals()):
        body = answered(arrival)
        probabilities = [match["probability"] for match in body["matches"]]
        assert sum(probabilities) + body["not_in_catalogue"] == pytest.approx(1, abs=0.001)
        assert probabilities == sorted(probabilities, reverse=True)
        (known if place < 10 else unknown).append(body["not_in_catalogue"])
    assert np.mean(known) + 0.15 < np.mean(unknown)
    separation = figures.area_under_roc(np.array(known + unknown), np.array([False] * 10 + [True] * 10))
    assert separation is not None
    assert separation > 0.8


def test_weights_of_the_evidence_add_to_the_log_odds(catalogue: list[Product]) -> None:
    run("calibrate")
    Product.objects.update(brand="Nord")
    body = answered(arrivals()[0])
    best = body["matches"][0]
    odds = best["probability"] / body["not_in_catalogue"]
    assert sum(item["weight"] for item in best["evidence"]) == pytest.approx(np.log(odds), abs=0.1)
    kinds = {item["kind"] for item in body["matches"][0]["evidence"]}
    assert {"image", "image_lead", "brand"} == kinds
    assert all(item["text"] and item["direction"] in ("for", "against") for item in body["matches"][0]["evidence"])


def test_equal_gtin_is_found_whatever_the_image_looks_like(catalogue: list[Product]) -> None:
    run("calibrate")
    arrival = arrivals()[0]
    other = catalogue[20]
    before = [match["product_id"] for match in answered(arrival)["matches"]]
    assert before[0] == catalogue[0].pk
    assert other.pk not in before
    Product.objects.filter(pk=arrival.pk).update(gtin="4006381333931")
    Product.objects.filter(pk=other.pk).update(gtin="04006381333931")
    body = answered(arrival, threshold=60)
    assert body["matches"][0]["product_id"] == other.pk
    assert body["matches"][0]["rank"] == 1
    [reason] = [item for item in body["matches"][0]["evidence"] if item["kind"] == "identifier"]
    assert reason["direction"] == "for"
    assert "4006381333931" in reason["text"]


def test_different_gtins_speak_against(catalogue: list[Product]) -> None:
    run("calibrate")
    arrival = arrivals()[0]
    before = answered(arrival)["matches"][0]
    Product.objects.filter(pk=arrival.pk).update(gtin="4006381333931")
    Product.objects.filter(pk=catalogue[0].pk).update(gtin="5449000000996")
    after = next(match for match in answered(arrival)["matches"] if match["product_id"] == before["product_id"])
    assert odds_of(after) < odds_of(before) / 20
    assert "against" in {item["direction"] for item in after["evidence"] if item["kind"] == "identifier"}


def test_page_ask_says_the_answer_and_why(catalogue: list[Product]) -> None:
    run("calibrate")
    image = SimpleUploadedFile("photo.jpg", jpeg(), "image/jpeg")
    text = browser_of("viewer").post("/admin/ask/", {"images": image, "threshold": 0, "limit": 5}).content.decode()
    answer = re.search(r'cm-case-answer" dir="auto">([^<]+)<', text)
    assert answer is not None
    assert "likely" in answer[1] or "Probably" in answer[1]
    assert "likely the same" in text
    assert re.search(r'data-kind="image">The images are alike by \d+ of 100.', text)


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.001, "<1 %"), (0.755, "76 %"), (0.999, ">99 %"), (1.0, "100 %")]
)
def test_no_guess_is_called_certain(share: float, text: str) -> None:
    assert wording.percent(share).replace("\u00a0", " ") == text


def test_answer_is_saved_listed_and_exported(catalogue: list[Product]) -> None:
    run("calibrate")
    arrival = arrivals()[0]
    body = answered(arrival)
    match = Match.objects.get(product=arrival, rank=1)
    assert match.probability == pytest.approx(body["matches"][0]["probability"], abs=1e-4)
    assert match.evidence == body["matches"][0]["evidence"]
    answer = ProductAnswer.objects.get(product=arrival)
    assert (answer.answer, round(answer.not_in_catalogue or 0, 4)) == (body["answer"], body["not_in_catalogue"])


def test_decisions_move_what_is_promised(catalogue: list[Product]) -> None:
    """If people find that most arrivals are new, the next arrival is more likely new."""
    run("calibrate")
    known, unknown = arrivals()[:10], arrivals()[10:]
    before = service.find_matches(known[9].pk, threshold=0).not_in_catalogue
    reviewer = user_in("reviewer")
    for product in (*unknown, *known[:6]):
        service.find_and_save_matches(product.pk, threshold=0)
        verdicts.set_verdicts(product.matches.all(), "rejected", reviewer)
    report = json.loads(calibrated_report())
    assert report["decisions"] == 16
    assert report["adopted"]
    after = service.find_matches(known[9].pk, threshold=0).not_in_catalogue
    assert before is not None
    assert after is not None
    assert after > before


def calibrated_report() -> str:
    assert run("calibrate").code == 0
    return json.dumps(Calibration.objects.latest("pk").report)


def test_worse_probabilities_are_not_adopted(catalogue: list[Product]) -> None:
    """Verdicts at random teach nothing, so what is in use stays."""
    run("calibrate")
    reviewer = user_in("reviewer")
    in_use = Calibration.objects.get()
    for place, product in enumerate(arrivals()[:10]):
        service.find_and_save_matches(product.pk, threshold=0)
        if place % 2:
            verdicts.set_verdicts(product.matches.all(), "rejected", reviewer)
        else:
            verdicts.set_verdict(product.matches.get(rank=1).pk, "confirmed", reviewer)
    result = run("calibrate")
    adopted = Calibration.objects.latest("pk").adopted
    assert ("Those in use are kept." in result.out) is not adopted
    assert Calibration.objects.filter(adopted=True).latest("pk").pk == (in_use.pk if not adopted else in_use.pk + 1)


def test_catalogue_of_one_image_a_product_gets_a_sentence(catalogue: list[Product]) -> None:
    Product.objects.filter(pk__in=[product.pk for product in catalogue[15:]]).update(is_historical=False)
    result = run("calibrate")
    assert result.code == 1
    assert "Only 15 catalogue products have two images or more. Probabilities need 20." in result.err
    assert calibration.keep_calibrated() is None
    assert answered(arrivals()[0])["answer"] == "look"


def test_calibration_is_kept_up_to_date_after_decisions(catalogue: list[Product]) -> None:
    assert calibration.keep_calibrated() is not None
    assert calibration.keep_calibrated() is None
    Calibration.objects.update(created_at=timezone.now() - calibration.RENEW_AFTER * 2)
    assert calibration.keep_calibrated() is None  # nothing was decided
    product = arrivals()[0]
    service.find_and_save_matches(product.pk, threshold=0)
    verdicts.set_verdict(product.matches.get(rank=1).pk, "confirmed", user_in("reviewer"))
    assert calibration.keep_calibrated() is not None


def test_report_is_written_and_repeatable(catalogue: list[Product], tmp_path: Path) -> None:
    reports = []
    for name in ("a.json", "b.json"):
        assert run("calibrate", "--json", tmp_path / name).code == 0
        reports.append(json.loads((tmp_path / name).read_text()))
    first, second = reports
    assert {"ece", "brier", "auroc_not_in_catalogue", "log_loss", "questions", "decisions"} < first.keys()
    assert {key: value for key, value in first.items() if key != "seconds"} == {
        key: value for key, value in second.items() if key != "seconds"
    }
    assert first["auroc_not_in_catalogue"] > 0.75


def test_figures_by_hand() -> None:
    probabilities = np.array([0.9, 0.9, 0.6, 0.1])
    right = np.array([True, False, True, False])
    assert figures.brier_score(probabilities, right) == pytest.approx((0.01 + 0.81 + 0.16 + 0.01) / 4)
    assert figures.expected_calibration_error(probabilities, right) == pytest.approx((0.1 + 0.9 + 0.4 + 0.1) / 4)
    assert figures.area_under_roc(probabilities, right) == pytest.approx(0.625)
    assert figures.wilson_interval(149, 149)[0] == pytest.approx(0.9749, abs=1e-4)
    # Both answers of 0.9 count, whichever comes first, so no share is right in 0.95.
    assert figures.coverage_at(0.95, probabilities, right) == (0.0, 0.0)
    assert figures.coverage_at(0.5, probabilities, right)[0] == 1.0
    sure = np.full(200, 0.99)
    assert figures.promised_from(0.95, sure, np.ones(200, bool)) == 0.99
    assert figures.promised_from(0.95, sure[:20], np.ones(20, bool)) is None  # too few to promise


def test_image_that_the_catalogue_has_is_nearly_certain(catalogue: list[Product]) -> None:
    assert run("calibrate").code == 0
    arrival = add_product(photographs(PRODUCTS + 10, VIEWS + 1)[3][0], historical=False)
    answer = answered(arrival)
    best = answer["matches"][0]
    assert best["product_id"] == catalogue[3].pk
    assert best["probability"] > 0.95
    assert "Both have the same image." in [item["text"] for item in best["evidence"]]


def test_same_image_says_little_where_products_share_images() -> None:
    shown = photographs(PRODUCTS, VIEWS)
    shared = photographs(PRODUCTS // 2, 1, seed=1)
    products = [add_product(*views, *shared[number // 2]) for number, views in enumerate(shown)]
    assert run("calibrate").code == 0
    answer = answered(add_product(*shared[0], historical=False))
    both = {match["product_id"]: match["probability"] for match in answer["matches"]}
    assert both[products[0].pk] == pytest.approx(both[products[1].pk], abs=0.2)
    assert max(both.values()) < 0.8


def test_calibration_of_other_terms_is_made_again(catalogue: list[Product]) -> None:
    assert calibration.keep_calibrated() is not None
    Calibration.objects.update(parameters={"weights": {"similarity": 1, "lead": 1, "rank": 1}, "none": 1.0})
    assert answered(arrivals()[0])["not_in_catalogue"] is None
    assert calibration.keep_calibrated() is not None
    assert answered(arrivals()[0])["not_in_catalogue"] is not None
