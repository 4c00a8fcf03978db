"""Decisions outlive their products: they come back when a deleted product is imported again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.utils import timezone

from core.history import retention
from matching.learning.views import confirmed_products
from matching.models import Decision, DeletedProduct, KeptDecision, KeptVerdict, Match
from matching.review import kept, queue
from products.models import Product
from tests.helpers.accounts import client_of, user_in
from tests.helpers.rows import make_match
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db

SEEDS = {"arrival": 1, "mug": 2, "jug": 3}


def upload(name: str, sku: str = "", is_historical: bool = False) -> Product:
    """Add a product with an image of its own through the API."""
    image = SimpleUploadedFile(f"{name}.jpg", jpeg(SEEDS[name]), "image/jpeg")
    body: dict[str, Any] = {"image": image, "name": name, "sku": sku, "is_historical": is_historical}
    response = client_of("uploader").post("/api/products/upload?wait=0", body, format="multipart")
    assert response.status_code in (201, 202), response.json()
    return Product.objects.get(pk=response.json()["product_id"])


def decide(product: Product, **body: Any) -> None:
    response = client_of("reviewer").post(f"/api/cases/{product.pk}/decision", body, format="json")
    assert response.status_code == 200, response.json()


def delete(*products: Product) -> None:
    for product in products:
        assert client_of("manager").delete(f"/api/products/{product.pk}").status_code == 204


def case(product: Product) -> dict[str, Any]:
    body: dict[str, Any] = client_of("viewer").get(f"/api/cases/{product.pk}").json()
    return body


def decided_pair(sku: str = "", candidate_sku: str = "") -> tuple[Product, Product, Product]:
    """Return a new product, the catalogue product that it was decided to be, and another candidate."""
    new, old = upload("arrival", sku), upload("mug", candidate_sku, is_historical=True)
    other = upload("jug", "J-1", is_historical=True)
    Match.objects.all().delete()
    make_match(new, old, 90)
    make_match(new, other, 80)
    decide(new, decision="same", candidates=[old.pk], note="the handle")
    return new, old, other


def verdicts(product: Product) -> dict[int, str]:
    return dict(product.matches.values_list("candidate_id", "review_status"))


@pytest.mark.parametrize("sku", ["N-1", ""], ids=["by its SKU", "by its image"])
def test_decision_comes_back_with_the_new_product(sku: str) -> None:
    new, old, other = decided_pair(sku)
    made = Decision.objects.get()
    delete(new)
    assert not Decision.objects.exists()

    again = upload("arrival", sku)

    assert again.pk != new.pk
    body = case(again)
    assert body["state"] == "decided"
    assert (body["decision"]["decision"], body["decision"]["candidates"]) == ("same", [old.pk])
    assert (body["decision"]["by"], body["decision"]["note"]) == ("reviewer", "the handle")
    assert verdicts(again) == {old.pk: "confirmed", other.pk: "rejected"}
    assert confirmed_products() == {again.pk: old.pk}  # what a head learns from
    assert Decision.objects.get().decided_at == made.decided_at
    assert not KeptDecision.objects.exists()
    assert not KeptVerdict.objects.exists()
    assert not DeletedProduct.objects.exists()


def test_decision_names_the_candidate_that_was_imported_again() -> None:
    new, old, _other = decided_pair(candidate_sku="M-1")
    delete(old)
    assert case(new)["state"] == "decided"
    assert confirmed_products() == {}

    again = upload("mug", "M-1", is_historical=True)

    assert case(new)["decision"]["candidates"] == [again.pk]
    assert Decision.objects.get().shown[0]["candidate"] == again.pk
    assert verdicts(new)[again.pk] == "confirmed"
    assert confirmed_products() == {new.pk: again.pk}


@pytest.mark.parametrize("catalogue_first", [True, False])
def test_whole_catalogue_can_be_deleted_and_imported_again_in_any_order(catalogue_first: bool) -> None:
    new, old, other = decided_pair("N-1", "M-1")
    client_of("manager")
    delete(old, new, other)

    imports: list[tuple[str, str, bool]] = [("mug", "M-1", True), ("jug", "J-1", True), ("arrival", "N-1", False)]
    again = {name: upload(name, sku, old) for name, sku, old in (imports if catalogue_first else imports[::-1])}

    assert case(again["arrival"])["decision"]["candidates"] == [again["mug"].pk]
    assert verdicts(again["arrival"]) == {again["mug"].pk: "confirmed", again["jug"].pk: "rejected"}
    assert confirmed_products() == {again["arrival"].pk: again["mug"].pk}


def test_decision_counts_once_however_often_the_product_comes_back() -> None:
    new, _old, _other = decided_pair("N-1")
    for _time in range(3):
        delete(new)
        new = upload("arrival", "N-1")
    assert queue.decisions_today(user_in("reviewer")) == 1
    assert [(entry.history_type, entry.product_id) for entry in Decision.history.all()] == [("+", new.pk)]
    assert Match.history.filter(review_status="confirmed").count() == 1
    assert Match.objects.filter(review_status="confirmed").count() == 1


def test_decision_that_it_is_new_comes_back_and_can_be_undone() -> None:
    new, old, other = decided_pair("N-1")
    client = client_of("reviewer")
    decide(new, decision="new", reason="other maker")
    delete(new)
    again = upload("arrival", "N-1")
    assert case(again)["decision"]["reason"] == "other maker"
    assert client.delete(f"/api/cases/{again.pk}/decision").status_code == 204
    assert verdicts(again) == {old.pk: "pending", other.pk: "pending"}


def test_rejected_pair_without_a_decision_stays_rejected() -> None:
    new, _old, other = decided_pair("N-1")
    assert client_of("reviewer").delete(f"/api/cases/{new.pk}/decision").status_code == 204
    match = new.matches.get(candidate=other)
    client_of("reviewer").patch(f"/api/matches/{match.pk}", {"review_status": "rejected", "note": "no"}, format="json")
    delete(new)
    again = upload("arrival", "N-1")
    assert list(again.matches.values_list("candidate_id", "review_status", "note")) == [(other.pk, "rejected", "no")]
    assert case(again)["decision"] is None


def test_image_that_several_products_have_does_not_tell_which_one_comes_back() -> None:
    new, _old, _other = decided_pair()
    upload("arrival", "X-2")  # the same image under another SKU
    delete(new)
    again = upload("arrival", "X-3")
    assert case(again)["decision"] is None
    assert KeptDecision.objects.count() == 1


def test_product_without_decisions_leaves_nothing() -> None:
    new = upload("arrival", "N-1")
    make_match(new, upload("mug", "M-1", is_historical=True))
    delete(new)
    assert not DeletedProduct.objects.exists()


def test_bulk_deletion_and_import_by_command_keep_decisions(tmp_path: Any) -> None:
    new, old, _other = decided_pair("N-1", "M-1")
    Product.objects.filter(pk__in=[new.pk, old.pk]).delete()  # as the admin's actions and jobs do
    for name, sku, historical in (("mug", "M-1", "yes"), ("arrival", "N-1", "no")):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(SEEDS[name]))
        table = tmp_path / f"{name}.csv"
        table.write_text(f"sku,name,image,is_historical\n{sku},{name},{name}.jpg,{historical}\n")
        call_command("import_products", str(table), "--images", str(tmp_path))
    again = Product.objects.get(sku="N-1")
    assert case(again)["decision"]["candidates"] == [Product.objects.get(sku="M-1").pk]


def test_deleted_products_are_forgotten_with_the_history(settings: Any) -> None:
    new, _old, _other = decided_pair("N-1")
    delete(new)
    settings.HISTORY_DAYS = 30
    retention.prune()
    assert KeptDecision.objects.exists()
    DeletedProduct.objects.update(deleted_at=timezone.now() - timedelta(days=31))
    retention.prune()
    assert not KeptDecision.objects.exists()
    assert not KeptVerdict.objects.exists()
    assert case(upload("arrival", "N-1"))["decision"] is None


def test_deleted_products_are_forgotten_by_command(capsys: pytest.CaptureFixture[str]) -> None:
    new, _old, _other = decided_pair("N-1")
    delete(new)
    call_command("prune_history", "--forget-deleted")
    assert "Forgot the decisions on 1 deleted products." in capsys.readouterr().out
    assert not KeptDecision.objects.exists()
    assert not KeptVerdict.objects.exists()


def test_oldest_deleted_products_are_forgotten_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_DELETED", 1)
    new, _old, other = decided_pair("N-1")
    delete(new)
    delete(other)
    assert list(DeletedProduct.objects.values_list("sku", flat=True)) == ["J-1"]
    assert not KeptDecision.objects.exists()
