"""An encoder is trained on the catalogue, compared on products that it did not see, and used like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_django import Settings

from gpu import clip
from gpu.encoders.weights import find_weights, model_id
from gpu.models import ModelVersion
from matching import service
from products.images.cleaning import Upload
from products.models import Product
from tests.conftest import use_clip
from tests.helpers.commands import run
from tests.helpers.rendered import add_rendered, small_encoder
from tests.helpers.rows import browser_of, make_match
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db

STAGES = ["frozen", "with head", "fine-tuned", "fine-tuned with head"]


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_encoder(tmp_path_factory.mktemp("small") / "small")


@pytest.fixture
def encoder(small_clip: Path, settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Return the encoder in use, and let trained ones go to a folder of the test."""
    settings.TRAINED_ROOT = tmp_path / "models"
    settings.DISK_RESERVE_BYTES = 0
    use_clip(settings, small_clip, tmp_path / "cache")
    yield small_clip
    clip.unload()


def tuned(tmp_path: Path, *options: object) -> dict[str, Any]:
    report = tmp_path / "report.json"
    result = run("fine_tune", "--json", report, *options)
    assert result.code == 0, result.err
    figures: dict[str, Any] = json.loads(report.read_text())
    return figures


def test_training_finds_more_products_that_it_did_not_see(encoder: Path, tmp_path: Path) -> None:
    add_rendered(100, 4)
    report = tuned(tmp_path, "--epochs", 8)
    recall = {stage: report["recall"][stage]["recall@1"]["value"] for stage in STAGES}
    assert recall["fine-tuned"] >= recall["frozen"] + 0.1, recall
    assert report["better"] == "after"
    assert report["gain"]["recall@1"]["low"] > 0
    assert (report["held_out_products"], report["queries"], report["views"]) == (20, 40, 400)
    assert report["gallery_products"] == 85  # those held out to stop early are not searched
    assert set(report["by_category"]) == {"C0", "C1"}
    for figures in report["by_category"].values():
        assert list(figures["recall"]) == STAGES


def test_trained_folder_is_an_encoder_that_can_be_switched_to(
    encoder: Path, tmp_path: Path, settings: Settings
) -> None:
    products = add_rendered(20, 2)
    assert run("reindex").code == 0
    before = model_id()
    result = run("fine_tune", "--epochs", 1)
    assert result.code == 0, result.err
    folder = settings.TRAINED_ROOT / "small-tuned"
    assert f"CLIP_MODEL={folder}" in result.out or "within the noise" in result.out or "worse" in result.out
    assert service.match_image(Upload(jpeg(1), "q.jpg"), threshold=0).model_name == before
    assert [path.name for path in settings.TRAINED_ROOT.iterdir()] == ["small-tuned"]  # the checkpoint is gone
    use_clip(settings, folder, tmp_path / "cache")
    assert run("reindex", "--missing").code == 0
    assert run("switch_model", folder).code == 0
    found = service.match_image(Upload(jpeg(1), "q.jpg"), threshold=0)
    assert found.model_name == model_id() == find_weights(str(folder)).model_id != before
    assert found.candidates[0].product == products[0]
    page = browser_of("manager").get("/admin/models/").content.decode()
    assert "small-tuned" in page
    again = run("fine_tune", "--epochs", 1, "--start-from", folder, "--out", tmp_path / "further")
    assert again.code == 0, again.err
    assert run("fine_tune", "--epochs", 1, "--start-from", folder).code == 0  # a trained model can be trained further
    assert (settings.TRAINED_ROOT / "small-tuned-tuned").is_dir()


def test_same_data_gives_the_same_weights(encoder: Path, tmp_path: Path) -> None:
    add_rendered(20, 2)
    first = tuned(tmp_path, "--epochs", 1, "--out", tmp_path / "one")
    second = tuned(tmp_path, "--epochs", 1, "--out", tmp_path / "two")
    assert first["data_hash"] == second["data_hash"]
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "two") != weights_of(encoder)


def weights_of(folder: Path) -> bytes:
    return (folder / "0_CLIPModel" / "model.safetensors").read_bytes()


def test_confirmed_images_are_views_and_rejected_pairs_are_negatives(encoder: Path, tmp_path: Path) -> None:
    catalogue = add_rendered(30, 1)
    arrivals = add_rendered(30, 2, first=1, historical=False)
    for number, (arrival, product) in enumerate(zip(arrivals, catalogue, strict=True)):
        confirmed = number < 25
        decide(arrival, product if confirmed else catalogue[0], "confirmed" if confirmed else "rejected")
    report = tuned(tmp_path, "--epochs", 1)
    assert report["views"] == 30 + 60
    assert report["rejected_pairs"] in range(1, 6)  # without those of held-out products


def decide(arrival: Product, product: Product, verdict: str) -> None:
    make_match(arrival, product, review_status=verdict, reviewed_at="2026-01-01T00:00:00Z")


def test_head_stands_for_its_encoder(encoder: Path, tmp_path: Path) -> None:
    add_rendered(20, 2)
    assert run("reindex").code == 0
    assert run("train_head").code == 0
    head = ModelVersion.objects.get().name
    report = tuned(tmp_path, "--epochs", 1, "--start-from", head)
    assert report["started_from"] == model_id()


def test_product_of_5000_images_has_the_share_of_others(encoder: Path, tmp_path: Path) -> None:
    from matching.fine_tuning import batches
    from matching.fine_tuning.data import TrainingData, read

    products = add_rendered(20, 2)
    view = products[0].images.get(position=0)
    type(view).objects.bulk_create(
        [
            type(view)(
                product=products[0], file=view.file.name, sha256=f"{number:064x}", width=96, height=96, state="ready",
                position=2 + number,
            )
            for number in range(5000)
        ]
    )  # fmt: skip
    data = read()
    assert len(data.views[products[0].pk]) == 200
    plan = batches.Batches(data, batches.split(data))
    for batch in plan.epoch(0):
        counts = np.unique(batch.labels, return_counts=True)[1]
        assert set(counts.tolist()) == {2}
    assert isinstance(data, TrainingData)


def test_ctrl_c_and_going_on_give_the_weights_of_a_training_without_a_stop(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.progress import progress_bar
    from matching.fine_tuning.run import fine_tune

    add_rendered(20, 2)
    fine_tune(None, 2, tmp_path / "whole", progress_bar)
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 35:  # in the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(None, 2, tmp_path / "parts", progress_bar, stop)
    assert not (tmp_path / "parts").exists()
    assert (tmp_path / "parts.training" / "checkpoint.pt").is_file()
    refused = run("fine_tune", "--epochs", 3, "--out", tmp_path / "parts")
    assert (refused.code, "with other --epochs" in refused.err) == (1, True)
    Product.objects.all().delete()  # the training keeps to the views that it began with
    report = fine_tune(None, 2, tmp_path / "parts", progress_bar)
    assert report["epochs"] == 2
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    assert not (tmp_path / "parts.training").exists()
