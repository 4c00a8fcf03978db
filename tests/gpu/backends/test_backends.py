"""CLIP_BACKEND=auto: the fastest backend of this machine that gives the same results."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from catalogmatch.operations import doctor
from core import files
from gpu import clip
from gpu.backends import background, candidate, choice, measuring, samples
from gpu.backends.choice import Choice, Result
from gpu.backends.loading import load_encoder
from gpu.encoders import registry, weights
from gpu.encoders.agreement import measure_agreement
from tests.conftest import use_clip
from tests.gpu.encoders.test_onnx_files import write_model
from tests.helpers.sample_images import noise


@pytest.fixture
def model(settings, tmp_path, monkeypatch):
    """Write a small ONNX encoder, whose backends are ONNX float32 and INT8, and measure it quickly."""
    monkeypatch.setattr(measuring, "SECONDS_A_ROUND", 0.05)
    settings.DISK_RESERVE_BYTES = 0
    path = write_model(tmp_path)
    use_clip(settings, path, tmp_path / "cache", measure=True)
    yield str(path)
    clip.unload()


@pytest.fixture
def broken(monkeypatch):
    def break_int8(how):
        monkeypatch.setenv("BROKEN", how)
        monkeypatch.setattr(candidate, "MODULE", "tests.gpu.backends.broken_candidate")
        monkeypatch.setattr(measuring, "_is_slower", lambda turn: False)  # so that it is compared in any case

    return break_int8


def keep(source, backend, **changes):
    """Keep a choice as if it had been measured."""
    results = (Result("onnx", 10.0, 1.0, 1.0, 1.0, 1.0), Result("onnx-int8", 30.0, 3.0, 0.9995, 0.9997, 0.995))
    found = Choice("tiny", backend, "onnx", 60, 0, "2026-01-02T03:04:05+00:00", 1.0, choice.machine(), results)
    choice.save(weights.find_weights(source), replace(found, **changes))


def write_int8(source):
    model_weights = weights.find_weights(source)
    pixels, _ = samples.sample(model_weights.preprocess)
    from gpu.encoders.onnx_export import export_precision

    export_precision(model_weights, "int8", pixels)


def result_of(measured, backend):
    return next(result for result in measured.results if result.backend == backend)


def test_fastest_backend_that_agrees_is_kept_and_used(model):
    measured = measuring.measure(model)
    agreeing = [result for result in measured.results if not result.problem]
    assert measured.backend == max(agreeing, key=lambda result: result.ratio or 0).backend
    assert (measured.images, measured.rendered) == (60, 60)
    assert choice.find(weights.find_weights()) == measured
    assert registry.clip_status().backend == measured.backend
    assert registry.get_encoder().backend == measured.backend


def test_vectors_of_all_backends_belong_to_the_same_version(model):
    before = weights.model_id()
    write_int8(model)
    keep(model, "onnx-int8")
    assert registry.get_encoder().backend == "onnx-int8"
    assert weights.model_id() == before


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("crash", "Its process crashed (signal 4)."),
        ("NaN", "It gives no usable vectors. They are zero or not finite."),
        ("other vectors", "It differs too much from full precision."),
        ("hang", "It took more than 2 seconds."),
    ],
)
def test_broken_backend_is_named_and_not_used(how, problem, model, broken, monkeypatch):
    write_int8(model)
    broken(how)
    if how == "hang":
        monkeypatch.setattr(candidate, "MAX_SECONDS", 2)
    measured = measuring.measure(model)
    assert measured.backend == "onnx"
    assert result_of(measured, "onnx-int8").problem == problem
    assert registry.get_encoder().backend == "onnx"


def test_export_without_room_is_named_and_nothing_is_written(model, settings, tmp_path):
    settings.DISK_RESERVE_BYTES = 2**60
    measured = measuring.measure(model)
    assert measured.backend == "onnx"
    assert "could not be exported. The disk is nearly full" in result_of(measured, "onnx-int8").problem
    assert not (tmp_path / "cache" / "onnx").exists()


def test_only_one_process_measures_at_a_time(model):
    files.make_folder(choice.lock_file().parent)
    with files.locked(choice.lock_file()) as is_mine:
        assert is_mine
        with pytest.raises(CommandError, match="Another process measures"):
            call_command("benchmark_backends")
    assert choice.find(weights.find_weights()) is None


def test_other_machine_other_weights_and_damaged_file_are_measured_again(model, monkeypatch, tmp_path):
    keep(model, "onnx")
    found = weights.find_weights()
    assert choice.find(found) is not None
    assert choice.find(replace(found, fingerprint="other")) is None
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(choice, "_hardware", lambda: {"cpu": "another processor"})
        assert choice.find(found) is None
    (kept,) = (tmp_path / "cache" / "backends").rglob("*.json")
    kept.write_text("{")
    assert choice.find(found) is None


def test_choice_on_a_gpu_does_not_count_with_clip_force_cpu(model, settings, monkeypatch):
    monkeypatch.setattr("gpu.device._hardware", lambda: "cuda")
    keep(model, "onnx")
    assert choice.find(weights.find_weights()) is not None
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"force_cpu": True}
    assert choice.find(weights.find_weights()) is None


def test_candidates_depend_on_the_device_and_the_model(model, tiny_clip, settings, monkeypatch):
    assert measuring.candidates(weights.find_weights(model)) == ("onnx", ["onnx-int8"])
    on_cpu = ("torch", ["torch-bfloat16", "torch-float16", "onnx", "onnx-int8"])
    assert measuring.candidates(weights.find_weights(str(tiny_clip))) == on_cpu
    monkeypatch.setattr("gpu.device._hardware", lambda: "cuda")
    on_gpu = ("torch-float32", ["torch", "torch-bfloat16", "torch-float16"])
    assert measuring.candidates(weights.find_weights(str(tiny_clip))) == on_gpu
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"force_cpu": True}
    assert measuring.candidates(weights.find_weights(str(tiny_clip))) == on_cpu


def test_running_process_goes_on_while_it_loads_the_better_backend(model):
    first = registry.get_encoder()
    write_int8(model)
    keep(model, "onnx-int8")
    assert registry.get_encoder() is first
    deadline = time.monotonic() + 20
    while registry.get_encoder() is first and time.monotonic() < deadline:
        time.sleep(0.02)
    assert registry.get_encoder().backend == "onnx-int8"


def test_choice_that_cannot_be_loaded_any_more_is_not_used(model):
    write_int8(model)
    keep(model, "onnx-int8")
    (exported,) = weights.cache_dir().rglob("image-int8.onnx")
    exported.write_bytes(bytes(exported.stat().st_size))
    assert registry.get_encoder().backend == "onnx"
    exported.unlink()
    assert registry.clip_status().backend == "onnx"


def test_configured_backend_wins_over_the_measured_one(model, settings):
    write_int8(model)
    keep(model, "onnx-int8")
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"backend": "onnx"}
    assert registry.get_encoder().backend == "onnx"


def test_worker_measures_in_the_background_once_it_has_used_a_model(model, settings):
    assert not background.measure_if_needed()  # nothing was used yet
    registry.get_encoder()
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"backend": "onnx"}
    assert not background.measure_if_needed()
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"backend": "auto", "measure": False}
    assert not background.measure_if_needed()
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"measure": True}
    keep(model, "onnx")
    assert not background.measure_if_needed()
    for kept in (weights.cache_dir() / "backends").rglob("*.json"):
        kept.unlink()
    assert background.measure_if_needed()
    assert not background.measure_if_needed()
    assert background._process is not None
    assert background._process.wait(120) == 0
    assert not background.measure_if_needed()


def test_choice_on_drawn_images_is_measured_again_on_real_ones(model, media):
    keep(model, "onnx", rendered=60)
    assert not background._needs_measuring(model)
    folder = media / "pictures" / "ab"
    folder.mkdir(parents=True)
    for number in range(samples.MIN_IMAGES):
        noise(number, (40, 40)).save(folder / f"{number}.png")
    assert background._needs_measuring(model)
    prepared, drawn = samples.sample(weights.find_weights().preprocess)
    assert (len(prepared), drawn) == (60, 0)


def test_drawn_images_differ_from_each_other_and_stay_the_same(model):
    first, again, other = (np.asarray(samples.draw(number)) for number in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_command_prints_and_writes_what_it_measured(model, tmp_path, capsys):
    call_command("benchmark_backends", json=tmp_path / "backends.json")
    printed = capsys.readouterr().out
    (written,) = json.loads((tmp_path / "backends.json").read_text())
    assert f"in use here with CLIP_BACKEND=auto: {written['backend']}" in printed
    assert [result["backend"] for result in written["results"]] == ["onnx", "onnx-int8"]
    assert written["machine"] == choice.machine()


def test_doctor_page_and_api_say_which_backend_is_in_use(model, admin_client):
    assert "not measured on this machine yet" in doctor.model().text
    assert "have not been measured" in admin_client.get(reverse("admin:device")).content.decode()
    write_int8(model)
    keep(model, "onnx-int8")
    assert "backend onnx-int8, 3.0 × onnx on 2026-01-02, the fastest backend that agrees" in doctor.model().text
    page = admin_client.get(reverse("admin:device")).content.decode()
    assert "Backends on this machine" in page
    assert "99.5 %" in page
    assert admin_client.get("/api/clip/info").json()["backend"] == "onnx-int8"


def test_half_precision_keeps_the_results(with_clip):
    model_weights = weights.find_weights()
    images, _ = samples.sample(model_weights.preprocess)
    vectors = [
        np.asarray(load_encoder(backend, model_weights).start(images)()) for backend in ("torch", "torch-bfloat16")
    ]
    agreement = measure_agreement(*vectors)
    assert agreement.mean_cosine >= measuring.MIN_MEAN_COSINE
