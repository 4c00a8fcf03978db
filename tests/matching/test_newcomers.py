"""Products that come into the catalogue are compared with the open cases, which then get their better candidates."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from pytest_django import Settings

from matching import newcomers, service, tasks
from matching.models import Match
from matching.preferences import DEFAULT_LIMIT
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product
from tests.helpers.accounts import client_of
from tests.helpers.commands import run
from tests.helpers.rows import make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv
from tests.helpers.vectors import add_products, legacy_features

pytestmark = pytest.mark.django_db(transaction=True)


def arrive(seed: int, **fields: Any) -> Product:
    """Upload a new product that shows what the catalogue product of this seed shows."""
    product: Product = add_product([Upload(jpeg(seed, angle=3, light=0.95))], **fields).product
    return product


def upload(seed: int) -> Product:
    """Upload a catalogue product through the API."""
    file = SimpleUploadedFile(f"{seed}.jpg", jpeg(seed), "image/jpeg")
    body = {"image": file, "is_historical": "true"}
    response = client_of("uploader").post("/api/products/upload", body, format="multipart")
    assert response.status_code in (201, 202), response.content
    return Product.objects.get(pk=response.json()["product_id"])


def import_catalogue(folder: Path, seeds: range) -> None:
    for seed in seeds:
        (folder / f"{seed}.jpg").write_bytes(jpeg(seed))
    rows = [{"sku": f"H{seed}", "is_historical": "yes", "image": f"{seed}.jpg"} for seed in seeds]
    assert run("import_products", write_csv(folder / "catalogue.csv", rows)).code == 0


def best(product: Product) -> str | None:
    match = product.matches.filter(rank=1).first()
    return match.candidate.sku if match is not None else None


def case(product: Product) -> dict[str, Any]:
    body: dict[str, Any] = client_of("viewer").get(f"/api/cases/{product.pk}").json()
    return body


def waiting() -> int:
    return Product.objects.filter(unmatched_since__isnull=False).count()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """List the products that are searched in full."""
    searched: list[int] = []
    search = service.match_again

    def counted(product_id: int) -> service.SearchResult:
        searched.append(product_id)
        return search(product_id)

    monkeypatch.setattr(service, "match_again", counted)
    return searched


def test_arrivals_have_candidates_at_the_end_of_an_import_without_a_broker(tmp_path: Path) -> None:
    arrivals = [arrive(seed) for seed in range(1, 21)]
    assert not Match.objects.exists()
    import_catalogue(tmp_path, range(1, 82))
    assert [best(product) for product in arrivals] == [f"H{seed}" for seed in range(1, 21)]
    assert waiting() == 0


def test_arrivals_have_candidates_after_one_sweep_with_workers(tmp_path: Path, settings: Settings) -> None:
    settings.HAS_BROKER = True
    arrivals = [arrive(seed) for seed in range(1, 6)]
    import_catalogue(tmp_path, range(1, 12))
    assert not Match.objects.exists()
    tasks.follow_catalogue()
    assert [best(product) for product in arrivals] == [f"H{seed}" for seed in range(1, 6)]
    assert waiting() == 0


def test_case_says_that_an_upload_gave_it_a_better_candidate() -> None:
    other, arrival = upload(2), arrive(1)
    service.match_product(arrival.pk, threshold=0)
    Match.objects.update(created_at=timezone.now() - timedelta(hours=1))
    seen = case(arrival)
    assert ([found["product_id"] for found in seen["candidates"]], seen["better_candidate"]) == ([other.pk], False)
    better = upload(1)
    now = case(arrival)
    assert now["candidates"][0]["product_id"] == better.pk
    assert now["version"] != seen["version"]


def test_better_candidate_is_marked_beside_the_one_before() -> None:
    add_product([Upload(jpeg(1, angle=25, light=0.7))], is_historical=True)
    arrival = arrive(1)
    assert arrival.matches.count() == 1
    Match.objects.update(created_at=timezone.now() - timedelta(hours=1))
    better = upload(1)
    now = case(arrival)
    assert [found["found_later"] for found in now["candidates"]] == [True, False]
    assert (now["better_candidate"], now["candidates"][0]["product_id"]) == (True, better.pk)


@pytest.mark.parametrize("has_broker", [True, False])
def test_product_that_becomes_part_of_the_catalogue_is_compared(settings: Settings, has_broker: bool) -> None:
    becomes, arrival = arrive(1), arrive(1)
    settings.HAS_BROKER = has_broker
    change = {"is_historical": True}
    assert client_of("uploader").patch(f"/api/products/{becomes.pk}", change, format="json").status_code == 200
    if has_broker:
        tasks.follow_catalogue()
    else:
        assert run("match_products").out == "Matched 1 products.\n"
    assert [match.candidate for match in arrival.matches.all()] == [becomes]
    assert (becomes.matches.count(), waiting()) == (0, 0)


def test_decided_case_is_left_alone() -> None:
    upload(2)
    decided, arrival = arrive(1), arrive(1)
    answer = client_of("reviewer").post(f"/api/cases/{decided.pk}/decision", {"decision": "new"}, format="json")
    assert answer.status_code == 200
    before = case(decided)
    upload(1)
    assert (case(decided), arrival.matches.count()) == (before, 1)


def test_newcomer_with_the_same_number_becomes_a_candidate_whatever_it_looks_like() -> None:
    arrival = arrive(1, gtin="4006381333931")
    newcomer = add_product([Upload(jpeg(7))], is_historical=True, gtin="04006381333931").product
    assert [match.candidate for match in arrival.matches.all()] == [newcomer]


def test_products_deleted_in_between_are_skipped(settings: Settings) -> None:
    settings.HAS_BROKER = True
    gone, stays, deleted = arrive(1), arrive(1), upload(1)
    kept = upload(2)
    deleted.delete()
    gone.delete()
    tasks.follow_catalogue()
    assert not stays.matches.filter(candidate=deleted.pk).exists()
    assert Product.objects.filter(pk=kept.pk, unmatched_since=None).exists()
    assert waiting() == 0


def test_comparison_waits_for_the_end_of_an_import_but_not_for_ever() -> None:
    arrival = arrive(1)
    make_product("claimed", is_historical=True)
    newcomer = upload(1)
    assert not arrival.matches.exists()
    Product.objects.filter(pk=newcomer.pk).update(unmatched_since=timezone.now() - 2 * newcomers.MAX_WAIT)
    tasks.follow_catalogue()
    assert [match.candidate for match in arrival.matches.all()] == [newcomer]


def test_only_cases_that_get_a_better_candidate_are_searched_again(
    searches: list[int], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Each case has ten candidates that look exactly like it, but one, which the newcomer is closer to."""
    settings.HAS_BROKER = True
    looks = legacy_features(30)
    arrivals = add_products(looks, historical=False)
    for look in looks[1:]:
        add_products([look] * DEFAULT_LIMIT)
    service.match_products([product.pk for product in arrivals])
    [newcomer] = add_products([looks[0]])
    searches.clear()
    monkeypatch.setattr(newcomers, "BLOCK", 7)
    Product.objects.filter(pk=newcomer.pk).update(unmatched_since=timezone.now())
    tasks.follow_catalogue()
    assert searches == [arrivals[0].pk]
    assert [match.candidate for match in arrivals[0].matches.all()] == [newcomer]


def test_comparison_goes_on_after_its_time_is_over(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.HAS_BROKER = True
    monkeypatch.setattr(tasks, "MAX_TASK_SECONDS", -1)
    monkeypatch.setattr(newcomers, "BLOCK", 2)
    monkeypatch.setattr(newcomers, "MAX_NEWCOMERS", 2)
    looks = legacy_features(5)
    arrivals, catalogue = add_products(looks, historical=False), add_products(looks)
    Product.objects.filter(is_historical=True).update(unmatched_since=timezone.now())
    tasks.follow_catalogue()
    assert [product.matches.get().candidate for product in arrivals] == catalogue
    assert waiting() == 0
