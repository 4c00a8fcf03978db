"""Encoders are versions: computed in the shadow, switched to, joined in a head, and refused without an outage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_django import Settings

from gpu import clip
from gpu.encoders import selection
from gpu.encoders.weights import model_id
from gpu.vectors import LEGACY_MODEL
from matching import service
from matching.models import Calibration
from products.images.cleaning import Upload
from products.models import Feature, Product, ProductImage
from tests.conftest import use_clip
from tests.gpu.encoders.test_onnx_files import DIM, matrix, write_model
from tests.helpers.commands import run
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images

pytestmark = pytest.mark.django_db


@pytest.fixture
def first(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    """Return the ONNX encoder that the installation begins with."""
    path = described(write_model(tmp_path, name="first"))
    use_clip(settings, path, tmp_path / "cache")
    yield path
    clip.unload()


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Return another encoder, with longer vectors."""
    return described(write_model(tmp_path, output=("n", 30), values=matrix(30), name="second"))


def described(path: Path) -> Path:
    """Call the encoder what its file is called."""
    description = path.with_suffix(".json")
    description.write_text(json.dumps(json.loads(description.read_text()) | {"name": path.stem}))
    return path


def import_catalogue(tmp_path: Path, products: int = 3, views: int = 1) -> None:
    names = [f"P{number}_{view}.jpg" for number in range(products) for view in range(views)]
    write_images(tmp_path / "in", *names)
    table = write_csv(tmp_path / "in" / "t.csv", [{"sku": name.split("_")[0], "image": name} for name in names])
    assert run("import_products", table, "--historical").code == 0


def searched_with(version: str | None = None) -> tuple[str, str]:
    result = service.match_image(Upload(jpeg(1), "q.jpg"), threshold=0, version=version)
    assert result.candidates
    return result.feature_type, result.model_name


def test_new_encoder_is_computed_in_the_shadow_and_answers_after_the_switch(
    first: Path, second: Path, tmp_path: Path, settings: Settings
) -> None:
    import_catalogue(tmp_path)
    old = model_id()
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": str(second)}
    new = model_id()
    assert searched_with() == ("clip", old)
    refused = run("switch_model", new)
    assert refused.code == 1
    assert "No image is embedded with" in refused.err
    assert f"{old} is in use, but CLIP_MODEL is {new}" in run("doctor").out
    assert run("reindex").code == 0
    assert searched_with() == ("clip", old)
    assert searched_with(new) == ("clip", new)
    states = {line.split(":")[0]: line.rsplit(", ", 1)[1] for line in run("list_models").out.splitlines()}
    assert states == {old: "in use", new: "in the shadow", LEGACY_MODEL: "kept"}
    assert run("switch_model", "second").code == 0
    assert searched_with() == ("clip", new)
    assert "but CLIP_MODEL is" not in run("doctor").out
    assert run("rollback_model").code == 0
    assert searched_with() == ("clip", old)


def test_encoder_that_lacks_an_image_is_refused(first: Path, second: Path, tmp_path: Path, settings: Settings) -> None:
    import_catalogue(tmp_path)
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": str(second)}
    assert run("reindex").code == 0
    feature = Feature.objects.filter(model_name=model_id()).first()
    assert feature is not None
    feature.delete()
    refused = run("switch_model", model_id())
    assert refused.code == 1
    assert "lacks the vectors of 1 catalogue images" in refused.err
    assert searched_with()[1].startswith("first@")


def test_head_over_two_encoders_answers_and_new_images_get_both(
    first: Path, second: Path, tmp_path: Path, settings: Settings
) -> None:
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": [str(second)]}
    import_catalogue(tmp_path, products=20, views=2)
    images = ProductImage.objects.count()
    counts = [Feature.objects.filter(model_name=encoder.name).count() for encoder in selection.wanted()]
    assert counts == [images, images]
    report = tmp_path / "head.json"
    assert run("train_head", "--models", f"first,{second},legacy", "--json", report).code == 0
    figures = json.loads(report.read_text())
    assert [name.split("@")[0] for name in figures["made_of"]] == ["first", "second", LEGACY_MODEL]
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": []}  # the stored head still needs both
    assert run("switch_model", figures["version"]).code == 0
    assert searched_with() == ("head", figures["version"])
    (tmp_path / "more.jpg").write_bytes(jpeg(99))
    table = write_csv(tmp_path / "more.csv", [{"sku": "MORE", "image": "more.jpg"}])
    assert run("import_products", table).code == 0
    arrival = Product.objects.get(sku="MORE")
    assert set(arrival.features.values_list("model_name", flat=True)) == {*figures["made_of"], figures["version"]}
    assert service.find_matches(arrival.pk, threshold=0).model_name == figures["version"]


@pytest.mark.parametrize("damage", ["NaN weights", "shorter vectors", "fails on images"])
def test_damaged_encoder_in_the_shadow_stops_nothing(
    first: Path, second: Path, tmp_path: Path, settings: Settings, damage: str
) -> None:
    values = np.full_like(matrix(30), np.nan) if damage == "NaN weights" else matrix(29)
    reshape = [-1, 7] if damage == "fails on images" else None
    described(write_model(tmp_path, output=("n", 30), values=values, name="second", reshape=reshape))
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": [str(second)]}
    import_catalogue(tmp_path)
    assert set(ProductImage.objects.values_list("state", flat=True)) == {"ready"}
    assert set(Feature.objects.filter(kind="clip").values_list("dim", flat=True)) == {DIM}
    assert run("switch_model", str(second)).code == 1
    assert searched_with() == ("clip", model_id())


def test_encoder_in_use_whose_file_is_gone_leaves_legacy_features(
    first: Path, tmp_path: Path, settings: Settings
) -> None:
    import_catalogue(tmp_path)
    first.unlink()
    assert searched_with() == ("legacy", LEGACY_MODEL)
    assert "does not exist" in run("doctor").out


def test_pruned_encoder_is_computed_again_when_it_is_wanted(
    first: Path, second: Path, tmp_path: Path, settings: Settings
) -> None:
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": [str(second)]}
    import_catalogue(tmp_path)
    assert "There is nothing to delete." in run("prune_models", "--yes").out  # it is wanted
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": []}
    assert "Deleted 3 vectors." in run("prune_models", "--yes").out
    assert searched_with() == ("clip", model_id())
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": [str(second)]}
    assert run("reindex").code == 0
    assert run("switch_model", "second").code == 0
    assert searched_with()[1].startswith("second@")


def test_two_encoders_are_compared_and_calibrated_by_name(
    first: Path, second: Path, tmp_path: Path, settings: Settings
) -> None:
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": [str(second)]}
    import_catalogue(tmp_path, products=20, views=2)
    names = [encoder.name for encoder in selection.wanted()]
    queries = write_csv(tmp_path / "in" / "queries.csv", [{"image": "P3_0.jpg", "sku": "P3"}])
    report = tmp_path / "comparison.json"
    assert run("compare_models", "encoder", "second", queries, "--json", report).code == 0
    compared = json.loads(report.read_text())
    assert [compared["a"], compared["b"]] == names
    assert [compared["sets"][0][side]["recall@1"]["value"] for side in "ab"] == [1, 1]
    assert run("calibrate", "--version", "second").code == 0
    assert Calibration.objects.filter(model_name=names[1]).exists()


def test_models_page_switches_between_encoders(first: Path, second: Path, tmp_path: Path, settings: Settings) -> None:
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"extra_models": [str(second)]}
    import_catalogue(tmp_path)
    old, new = (encoder.name for encoder in selection.wanted())
    browser = browser_of("manager")
    page = browser.get("/admin/models/").text
    assert f"Switch to {new}" in page
    assert f"Switch to {old}" not in page
    browser.post("/admin/models/switch/", {"version": new, "current": "encoder"})
    assert searched_with() == ("clip", new)
    page = browser.get("/admin/models/").text
    assert f"Switch to {old}" in page
    assert f"Switch to {new}" not in page
    assert f"Roll back to {old}" in page
