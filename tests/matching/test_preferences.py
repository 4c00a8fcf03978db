"""The lowest score and the number of candidates that managers set: every search without its own follows them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command

from matching import tasks
from matching.models import Match
from products import preferences
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db(transaction=True)


def add(seed: int, *, is_historical: bool = True, angle: float = 0) -> Product:
    upload = Upload(jpeg(seed, angle=angle))
    return add_product([upload], is_historical=is_historical).product  # no name, so that only the images count


def api_match(product: Product, **options: Any) -> list[dict[str, Any]]:
    response = client_of("uploader").post(f"/api/products/{product.pk}/match", options, format="json")
    assert response.status_code == 200
    found: list[dict[str, Any]] = response.json()["matches"]
    return found


def test_every_search_without_its_own_threshold_follows_the_setting() -> None:
    add(1), add(2), add(3)
    arrival = add(1, is_historical=False, angle=4)
    scores = [match["similarity_score"] for match in api_match(arrival, threshold=0)]
    assert len(scores) == 3
    between = (scores[0] + scores[1]) / 2
    preferences.change({"matching.threshold": between}, None)

    assert [match["similarity_score"] for match in api_match(arrival)] == scores[:1]
    upload = SimpleUploadedFile("query.jpg", jpeg(1, angle=4))
    asked = client_of("viewer").post("/api/match", {"image": upload}, format="multipart").json()
    assert len(asked["matches"]) == 1
    page = browser_of("viewer").get("/admin/ask/")
    assert page.context["form"]["threshold"].value() == between

    preferences.change({"matching.threshold": 0.0}, None)
    call_command("match_products", "--all")
    assert Match.objects.filter(product=arrival).count() == 3


def test_the_number_of_candidates_follows_the_setting() -> None:
    add(1), add(2), add(3)
    preferences.change({"matching.threshold": 0.0, "matching.limit": 2}, None)
    arrival = add(1, is_historical=False, angle=4)
    assert Match.objects.filter(product=arrival).count() == 2
    assert len(api_match(arrival, limit=3)) == 3
    assert browser_of("viewer").get("/admin/ask/").context["form"]["limit"].value() == 2


@pytest.mark.parametrize(("threshold", "found"), [(0.0, 1), (100.0, 0)])
def test_a_product_new_in_the_catalogue_answers_a_case_by_the_setting(threshold: float, found: int) -> None:
    preferences.change({"matching.threshold": threshold}, None)
    arrival = add(1, is_historical=False)
    Product.objects.filter(pk=arrival.pk).update(unmatched_since=None)
    add(2)
    tasks.follow_catalogue()
    tasks.match_unmatched()
    assert Match.objects.filter(product=arrival).count() == found


def test_settings_refuse_a_threshold_that_is_no_score() -> None:
    client = browser_of("manager")
    shown = client.get("/admin/settings/").context
    wrong = {**shown["form"].initial, "seen": shown["seen"], "matching.threshold": "101"}
    assert client.post("/admin/settings/", wrong).status_code == 400
    assert browser_of("viewer").get("/admin/ask/").context["form"]["threshold"].value() == 50
