"""What cannot be trained is refused with a sentence, and nothing is left behind."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from pytest_django import Settings

from tests.gpu.encoders.test_onnx_files import write_model
from tests.helpers.commands import run
from tests.helpers.rendered import add_image, add_rendered
from tests.helpers.sample_images import jpeg
from tests.matching.fine_tuning.test_fine_tune import decide, encoder, small_clip

__all__ = ["encoder", "small_clip"]  # fixtures

pytestmark = pytest.mark.django_db


def refused(tmp_path: Path, *options: object) -> str:
    """Run the command, which must fail with one line and leave no file. Return the line."""
    result = run("fine_tune", "--out", tmp_path / "out" / "model", *options)
    assert result.code == 1, result.out
    assert result.err.count("\n") == 1, result.err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    return result.err


def test_onnx_file_cannot_be_trained(encoder: Path, tmp_path: Path) -> None:
    add_rendered(20, 2)
    path = write_model(tmp_path, name="fixed")
    assert "is an ONNX file, which cannot be trained" in refused(tmp_path, "--start-from", path)


def test_two_products_are_too_few(encoder: Path, tmp_path: Path) -> None:
    add_rendered(2, 3)
    assert "Only 2 catalogue products have two images or more. Fine-tuning needs 20" in refused(tmp_path)


def test_one_image_a_product_without_decisions_says_nothing(encoder: Path, tmp_path: Path) -> None:
    add_rendered(25, 1)
    message = refused(tmp_path)
    assert "Only 0 catalogue products have two images" in message
    assert "confirm matches" in message


def test_rejections_alone_do_not_suffice(encoder: Path, tmp_path: Path) -> None:
    catalogue = add_rendered(25, 1)
    for arrival in add_rendered(5, 1, first=50, historical=False):
        decide(arrival, catalogue[0], "rejected")
    assert "Rejected matches alone do not say which images show the same product" in refused(tmp_path)


def test_contradicting_decisions_are_left_out_and_named(encoder: Path, tmp_path: Path) -> None:
    catalogue = add_rendered(20, 1)
    arrivals = add_rendered(20, 1, first=1, historical=False)
    for number, arrival in enumerate(arrivals):
        decide(arrival, catalogue[number], "confirmed")
    decide(arrivals[0], catalogue[1], "confirmed")  # two products at once
    twin = add_rendered(1, 0, first=90, historical=False)[0]
    add_image(twin, (Path(arrivals[2].images.get().file.path)).read_bytes())
    decide(twin, catalogue[2], "rejected")  # the same image is confirmed and rejected
    message = refused(tmp_path)
    assert "Only 18 catalogue products" in message
    assert "1 images were left out because they belong to two products" in message
    assert "1 new products were left out because they are confirmed to be several" in message


def test_folder_that_lies_about_its_size_is_refused(encoder: Path, tmp_path: Path) -> None:
    add_rendered(20, 2)
    lying = Path(shutil.copytree(encoder, tmp_path / "lying"))
    config = lying / "0_CLIPModel" / "config.json"
    described = json.loads(config.read_text())
    config.write_text(json.dumps(described | {"projection_dim": 300}))
    assert "cannot be loaded" in refused(tmp_path, "--start-from", lying)
    weights = lying / "0_CLIPModel" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "is damaged or truncated" in refused(tmp_path, "--start-from", lying)


def test_weights_that_are_not_numbers_are_refused(encoder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    add_rendered(20, 2)
    damaged = Path(shutil.copytree(encoder, tmp_path / "damaged"))
    path = damaged / "0_CLIPModel" / "model.safetensors"
    content = load_file(path)
    content["visual_projection.weight"] = np.full_like(content["visual_projection.weight"], np.nan)
    save_file(content, path, {"format": "pt"})
    assert "Its weights are damaged" in refused(tmp_path, "--start-from", damaged)


def test_loss_that_is_no_number_stops_the_training(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu.training import loop

    add_rendered(20, 2)
    monkeypatch.setattr(loop, "RATE_TIMES_WIDTH", 1e38)  # the first step throws the weights away
    assert "The loss is not a number in epoch 1" in refused(tmp_path)


def test_missing_space_is_said_before_anything_is_read(encoder: Path, tmp_path: Path, settings: Settings) -> None:
    add_rendered(20, 2)
    settings.DISK_RESERVE_BYTES = shutil.disk_usage(tmp_path).total
    assert "MiB free. The training needs up to" in refused(tmp_path)


def test_disk_that_fills_up_keeps_the_last_checkpoint(encoder: Path, tmp_path: Path) -> None:
    add_rendered(20, 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # larger files cannot be written
    try:
        assert "cannot be written" in refused(tmp_path, "--epochs", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_image_that_cannot_be_read_is_left_out(encoder: Path, tmp_path: Path) -> None:
    products = add_rendered(20, 3)
    add_image(products[3], b"no image", 3)
    result = run("fine_tune", "--epochs", 1, "--out", tmp_path / "out")
    assert result.code == 0, result.err


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epoch_is_refused(epochs: int, encoder: Path, tmp_path: Path) -> None:
    assert "--epochs must be 1 or more" in refused(tmp_path, "--epochs", epochs)


def test_folder_that_is_there_is_not_overwritten(encoder: Path, tmp_path: Path) -> None:
    add_rendered(20, 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(jpeg())
    result = run("fine_tune", "--out", tmp_path / "mine")
    assert (result.code, "exists already" in result.err) == (1, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
