"""Pairs inside the catalogue become cases, each once, and what is decided is not asked again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from matching import index, service
from matching.duplicates import search
from matching.learning import model_jobs
from matching.models import Match, ModelJob
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import browser_of
from tests.helpers.vectors import add_product, legacy_features

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalogue() -> list[Product]:
    """Eight catalogue products of different looks. The first two, and the next two, look exactly alike."""
    looks = legacy_features(6)
    return [add_product(looks[number]) for number in (0, 0, 1, 1, 2, 3, 4, 5)]


def find(threshold: str = "99.9") -> None:
    call_command("find_duplicates", threshold=float(threshold), verbosity=0)


def pairs() -> list[tuple[int, int]]:
    return list(Match.objects.order_by("pk").values_list("product", "candidate"))


def cases(**filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client_of("viewer").get("/api/cases", filters).json()["results"]
    return found


def decide(product: Product, kind: str, *candidates: Product) -> None:
    body = {"decision": kind, "candidates": [one.pk for one in candidates]}
    response = client_of("reviewer").post(f"/api/cases/{product.pk}/decision", body, format="json")
    assert response.status_code == 200, response.content


def test_each_pair_is_one_case_of_the_newer_product(catalogue: list[Product]) -> None:
    ids = [product.pk for product in catalogue]
    find()
    assert sorted(pairs()) == [(ids[1], ids[0]), (ids[3], ids[2])]
    assert [(one["product_id"], one["kind"], one["state"]) for one in cases(kind="duplicate")] == [
        (ids[3], "duplicate", "open"), (ids[1], "duplicate", "open"),
    ]  # fmt: skip
    assert cases(kind="new") == []
    find()
    assert len(pairs()) == 2


def test_decided_pairs_are_not_asked_again(catalogue: list[Product]) -> None:
    find()
    decide(catalogue[1], "new")
    decide(catalogue[3], "same", catalogue[2])
    find()
    find("0")
    assert cases(state="open") != []
    for older, newer in (catalogue[:2], catalogue[2:4]):
        between = Match.objects.filter(product__in=(older, newer), candidate__in=(older, newer))
        assert [match.review_status != "pending" for match in between] == [True]


def test_waiting_pairs_that_are_no_longer_found_go(catalogue: list[Product]) -> None:
    find("0")
    assert len(pairs()) > 2
    kept = Match.objects.exclude(product=catalogue[1]).exclude(product=catalogue[3]).first()
    assert kept is not None
    Match.objects.filter(pk=kept.pk).update(note="look again")
    find()
    assert Match.objects.filter(pk=kept.pk).exists()
    assert len(pairs()) == 3


def test_stopped_search_goes_on_where_it_was(catalogue: list[Product], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BATCH", 3)
    searched: list[int] = []
    real = service.search_product

    def count(product: Product, *rest: Any, **options: Any) -> Any:
        if len(searched) == 4:
            searched.append(0)
            raise KeyboardInterrupt
        searched.append(product.pk)
        return real(product, *rest, **options)

    monkeypatch.setattr(service, "search_product", count)
    with pytest.raises(CommandError) as stopped:
        find()
    assert stopped.value.returncode == 130
    job = ModelJob.objects.get()
    assert (job.state, job.done, job.options["after"]) == ("stopped", 3, catalogue[2].pk)
    find()
    assert searched[5:] == [product.pk for product in catalogue[3:]]
    job.refresh_from_db()
    assert (job.state, job.report["new"], job.report["products"]) == ("done", 2, 8)


def test_merged_pair_is_no_case_any_more(catalogue: list[Product]) -> None:
    find()
    decide(catalogue[1], "same", catalogue[0])
    page = browser_of("uploader").get("/admin/duplicates/")
    [pair] = page.context["pairs"]
    assert (pair["kept"].pk, pair["other"].pk) == (catalogue[0].pk, catalogue[1].pk)
    shown = browser_of("uploader").get(pair["url"])
    fields = {"keep": catalogue[0].pk, "other": catalogue[1].pk, "version": shown.context["planned"].version}
    merged = browser_of("uploader").post("/admin/merge/", fields, follow=True)
    assert "The products were merged." in merged.content.decode()
    assert browser_of("uploader").get("/admin/duplicates/").context["pairs"] == []
    find()
    assert pairs() == [(catalogue[3].pk, catalogue[2].pk)]
    undone = browser_of("uploader").post("/admin/merge/undo/", {"old": catalogue[1].pk}, follow=True)
    assert "The merge was undone." in undone.content.decode()
    assert (catalogue[1].pk, catalogue[0].pk) in pairs()


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs get a row, but no process."""
    monkeypatch.setattr(model_jobs, "_launch", lambda _job: None)


@pytest.mark.usefixtures("unlaunched")
def test_page_starts_shows_and_stops_the_search(catalogue: list[Product]) -> None:
    uploader = browser_of("uploader")
    assert "was not searched for duplicates yet" in uploader.get("/admin/duplicates/").content.decode()
    page = uploader.post("/admin/duplicates/search/", {"threshold": 95}, follow=True)
    job = ModelJob.objects.get()
    assert (job.options, job.total, job.user) == ({"threshold": 0.95}, 8, user_in("uploader"))
    assert "0 of 8 products searched" in page.content.decode()
    again = uploader.post("/admin/duplicates/search/", {"threshold": 90}, follow=True)
    assert "Another job is running" in again.content.decode()
    uploader.post("/admin/duplicates/stop/")
    assert "Stopped after 0 of 8 products." in uploader.get("/admin/duplicates/").content.decode()
    uploader.post("/admin/duplicates/continue/")
    job.refresh_from_db()
    assert job.state == "running"
    model_jobs.run(job)
    job.refresh_from_db()
    assert (job.state, job.report["products"]) == ("done", 8)
    assert f"{job.report['cases']}" in uploader.get("/admin/duplicates/").content.decode()


@pytest.mark.usefixtures("unlaunched")
@pytest.mark.parametrize("wrong", ["", "0", "101", "many"])
def test_wrong_threshold_starts_nothing(wrong: str) -> None:
    page = browser_of("uploader").post("/admin/duplicates/search/", {"threshold": wrong}, follow=True)
    assert "a number from 1 to 100" in page.content.decode()
    assert not ModelJob.objects.exists()


def test_review_page_shows_duplicates_and_offers_to_merge(catalogue: list[Product]) -> None:
    find()
    manager = browser_of("manager")
    assert (
        manager.get("/admin/matching/match/case/?kind=duplicate")
        .headers["Location"]
        .startswith(f"/admin/matching/match/case/{catalogue[3].pk}/")
    )
    assert manager.get("/admin/matching/match/case/?kind=new").headers["Location"] == "/admin/matching/match/"
    url = f"/admin/matching/match/case/{catalogue[3].pk}/"
    assert "In the catalogue too" in manager.get(url).content.decode()
    fields = {"decision": "same", "candidate": catalogue[2].pk}
    answer = manager.post(f"{url}decide/", fields, headers={"Accept": "application/json"}).json()
    assert answer["link"]["url"] == f"/admin/merge/?keep={catalogue[2].pk}&other={catalogue[3].pk}"


def test_search_is_linear_in_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for look in legacy_features(30):
        add_product(look)
    calls: list[int] = []
    real = index.search

    def count(vectors: np.ndarray, *rest: Any, **options: Any) -> Any:
        calls.append(len(vectors))
        return real(vectors, *rest, **options)

    monkeypatch.setattr(index, "search", count)
    find()
    assert len(calls) == 30
