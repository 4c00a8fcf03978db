"""The self-audit: altered copies are found, left-out products are not, nothing is stored, and a drop is an alarm."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from matching.models import Decision, Match, SelfAudit
from matching.quality import self_audit
from matching.quality.switch import NIGHTLY
from matching.quality.tasks import audit_nightly
from products import preferences
from products.images import intake
from products.images.cleaning import Upload
from products.models import Feature, Product, ProductImage
from products.queue.embed import embed_pending
from tests.helpers.commands import run
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.matching.decided_cases import calibrate_by_hand

pytestmark = pytest.mark.django_db

PRODUCTS = 8


@pytest.fixture
def catalogue() -> list[Product]:
    for number in range(PRODUCTS):
        intake.add_product([Upload(jpeg(number), "a.jpg")], sku=f"P{number}", is_historical=True)
    embed_pending()
    return list(Product.objects.order_by("pk"))


def counts() -> dict[str, int]:
    models = (Product, ProductImage, Feature, Match, Decision)
    return {model.__name__: model.objects.count() for model in models}


def test_altered_copies_are_found_and_nothing_is_stored(catalogue: list[Product], tmp_path: Path, media: Path) -> None:
    calibrate_by_hand()
    before, files = counts(), sorted(media.rglob("*"))
    done = run("self_audit", "--seed", 1, "--count", PRODUCTS, "--json", tmp_path / "audit.json")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["expected"] == report["left_out"] > 4
    assert (report["found"], report["false_alarms"]) == (report["expected"], 0)
    assert (counts(), sorted(media.rglob("*"))) == (before, files)


def test_empty_catalogue_and_missing_files_are_sentences(catalogue: list[Product], media: Path) -> None:
    for image in ProductImage.objects.all():
        Path(image.file.path).unlink()
    done = run("self_audit", "--count", 3)
    assert (done.code, "No image file" in done.err) == (1, True)
    Product.objects.all().delete()
    done = run("self_audit")
    assert (done.code, "The catalogue has no product" in done.err) == (1, True)
    assert not SelfAudit.objects.exists()


def test_product_called_the_same_though_its_own_was_left_out_is_a_false_alarm(catalogue: list[Product]) -> None:
    calibrate_by_hand(slope=1e6, none=0, same_from=0.5)  # everything is the same
    audit = self_audit.run(PRODUCTS, seed=1)
    assert audit.false_alarms > 2  # the others look like nothing
    assert "left-out products were called the same as another" in self_audit.problem()


def test_drop_is_an_alarm_of_doctor_and_metrics(catalogue: list[Product], settings: object) -> None:
    settings.METRICS_TOKEN = "t"  # type: ignore[attr-defined]
    self_audit.run(PRODUCTS, seed=1)
    assert "OK" in next(line for line in run("doctor").out.splitlines() if " answers" in line)
    Feature.objects.filter(product__in=catalogue[: PRODUCTS - 1]).delete()  # as if most were lost
    audit = self_audit.run(PRODUCTS, seed=1)
    assert audit.found < audit.expected / 2
    line = next(line for line in run("doctor").out.splitlines() if " answers" in line)
    assert "WARN" in line
    assert "altered copies of catalogue images were found" in line
    browser = browser_of("manager")
    metrics = browser.get("/metrics", headers={"Authorization": "Bearer t"}).content.decode()
    assert "catalogmatch_self_audit_worse 1.0" in metrics
    page = browser.get("/admin/quality/").content.decode()
    assert "Not found:" in page


def test_one_audit_a_night_in_small_steps(catalogue: list[Product], monkeypatch: pytest.MonkeyPatch) -> None:
    hour = timezone.localtime().hour
    monkeypatch.setattr(self_audit, "NIGHT_HOURS", [hour])
    assert not self_audit.go_on(0)
    started = SelfAudit.objects.get()
    assert not started.is_done
    while not self_audit.go_on(0):
        pass
    assert SelfAudit.objects.get().is_done
    assert self_audit.go_on(0)
    SelfAudit.objects.update(made_at=timezone.now() + timedelta(days=3))  # the clock was set back
    assert not self_audit.go_on(0)
    assert SelfAudit.objects.count() == 2


def test_nightly_audit_can_be_switched_off(catalogue: list[Product], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_audit, "NIGHT_HOURS", range(24))
    preferences.change({NIGHTLY.name: False}, None)
    audit_nightly()
    assert not SelfAudit.objects.exists()
    preferences.change({NIGHTLY.name: True}, None)
    audit_nightly()
    assert SelfAudit.objects.exists()
