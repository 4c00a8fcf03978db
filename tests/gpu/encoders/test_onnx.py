"""ONNX Runtime on a CPU: the command export_onnx and the choice of the backend."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from gpu import clip
from gpu.encoders import onnx, onnx_export, registry, weights
from tests.conftest import use_clip
from tests.helpers.sample_images import jpeg


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(30):
        (folder / f"{number}.jpg").write_bytes(jpeg(number, (96, 120), angle=number))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def exports(tiny_clip, images, tmp_path_factory):
    """Export the small CLIP in both precisions to a cache folder, for tests that only read it."""
    from django.conf import settings
    from django.test import override_settings

    cache = tmp_path_factory.mktemp("cache")
    with override_settings(CLIP_CONFIG=settings.CLIP_CONFIG | {"model_name": str(tiny_clip), "cache_dir": str(cache)}):
        call_command("export_onnx", int8=True, verify=images)
    return cache


@pytest.fixture
def exported(exports, tiny_clip, settings, tmp_path):
    """Copy the exports to a cache folder that the test may change."""
    cache = shutil.copytree(exports, tmp_path / "cache")
    use_clip(settings, tiny_clip, cache)
    yield cache / "onnx" / weights.model_id()
    registry.unload()


def choose(settings, backend):
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"backend": backend}


def vectors(images):
    results = clip.process_batch(sorted(images.glob("*.jpg")))
    return np.stack([vector for vector in results if isinstance(vector, np.ndarray)])


def test_export_writes_both_encoders_in_both_precisions_with_a_stamp(exported):
    names = {"image.onnx", "text.onnx", "image-int8.onnx", "text-int8.onnx", "float32.json", "int8.json"}
    assert {path.name for path in exported.iterdir()} == names
    stamp = json.loads((exported / "int8.json").read_text())
    assert stamp["fingerprint"] == weights.find_weights().fingerprint
    assert stamp["agreement"]["images"] == 30
    assert stamp["agreement"]["mean_cosine"] >= 0.99


def test_all_backends_give_nearly_the_same_vectors(exported, settings, images):
    choose(settings, "torch")
    expected, name = vectors(images), weights.model_id()
    for backend, least in (("onnx", 0.9999), ("onnx-int8", 0.99)):
        choose(settings, backend)
        assert np.einsum("ij,ij->i", expected, vectors(images)).min() >= least
        assert registry.get_encoder().backend == backend
        assert weights.model_id() == name


@pytest.mark.parametrize(("chosen", "used"), [("auto", "onnx"), ("torch", "torch"), ("onnx-int8", "onnx-int8")])
def test_auto_uses_float32_on_a_cpu_and_int8_only_by_choice(chosen, used, exported, settings):
    choose(settings, chosen)
    assert registry.clip_status().backend == used
    assert registry.get_encoder().backend == used


def test_auto_uses_torch_on_a_gpu(exported, monkeypatch):
    monkeypatch.setattr("gpu.device._hardware", lambda: "cuda")
    assert registry.clip_status().backend == "torch"


@pytest.mark.parametrize("damage", ["cut off", "stamp gone", "other weights"])
def test_incomplete_or_outdated_export_is_not_used(damage, exported, images):
    if damage == "cut off":
        with (exported / "image.onnx").open("r+b") as file:
            file.truncate(1000)
    elif damage == "stamp gone":
        (exported / "float32.json").unlink()
    else:
        stamp = json.loads((exported / "float32.json").read_text())
        (exported / "float32.json").write_text(json.dumps(stamp | {"fingerprint": "another"}))
    assert registry.clip_status().backend == "torch"
    assert registry.is_clip_available()
    assert len(vectors(images)) == 30


def test_onnx_backend_does_not_load_torch(exports, tiny_clip, images):
    script = """
import sys, django
django.setup()
from pathlib import Path
from gpu import clip
vectors = clip.process_batch(sorted(Path(sys.argv[1]).glob("*.jpg")))
from gpu.encoders import registry
print(registry.get_encoder().backend, len(vectors), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(images)],
        env=os.environ | {"CLIP_MODEL": str(tiny_clip), "CLIP_CACHE_DIR": str(exports), "CLIP_BACKEND": "onnx"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["onnx", "30", "False"]


def test_unreadable_onnx_file_is_reported_in_one_line(exported):
    image = exported / "image.onnx"
    image.write_bytes(bytes(image.stat().st_size))
    with pytest.raises(registry.ClipUnavailableError, match="ONNX Runtime cannot load") as caught:
        registry.get_encoder()
    assert "\n" not in str(caught.value)
    assert not registry.is_clip_available()


def test_running_process_loads_a_new_export(with_clip, images):
    assert registry.get_encoder().backend == "torch"
    call_command("export_onnx", verify=images)
    assert registry.get_encoder().backend == "onnx"


def test_int8_without_a_measurement_is_installed_only_with_force(with_clip, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CommandError, match="measurement on at least 20 images"):
        call_command("export_onnx", int8=True, verify=empty)
    assert onnx.find_export(weights.find_weights(), "int8") is None
    call_command("export_onnx", int8=True, verify=empty, force=True)
    assert onnx.find_export(weights.find_weights(), "int8") is not None


def test_int8_below_the_required_agreement_is_installed_only_with_force(with_clip, images, monkeypatch):
    monkeypatch.setitem(onnx_export.MEAN_COSINE, "int8", 1.1)
    with pytest.raises(CommandError, match=r"differs (?:too much )?from torch"):
        call_command("export_onnx", int8=True, verify=images)
    place = onnx.export_folder(weights.find_weights())
    assert {path.name for path in place.iterdir()} == {"image.onnx", "text.onnx", "float32.json"}
    call_command("export_onnx", int8=True, verify=images, force=True)
    assert onnx.find_export(weights.find_weights(), "int8") is not None


@pytest.mark.parametrize(
    "free_bytes", [100_000, 1_100_000, 1_230_000], ids=["none", "a part", "all but the INT8 working files"]
)
def test_full_disk_leaves_no_partial_export(free_bytes, with_clip, images):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Larger files cannot be written, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        with pytest.raises(CommandError, match="cannot be written") as caught:
            call_command("export_onnx", int8=True, verify=images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list(onnx.export_folder(weights.find_weights()).iterdir()) == []


def test_read_only_cache_folder_is_reported(tiny_clip, settings, tmp_path, images):
    (tmp_path / "file").write_text("in the way")
    use_clip(settings, tiny_clip, tmp_path / "file")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_onnx", verify=images)
