"""Workers and status: device, model and speed, who may see them, and the life of a worker."""

from __future__ import annotations

import subprocess
import sys
import types
from datetime import timedelta

import pytest
from django.utils import timezone

from gpu import clip, device
from gpu import throughput as meter
from gpu.encoders import registry, weights
from gpu.models import EmbeddingWorker, WorkerSample
from gpu.monitoring import worker
from gpu.monitoring.status import gpu_status, images_per_second, throughput
from tests.conftest import use_clip
from tests.helpers.accounts import client_of
from tests.helpers.sample_images import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_measured_rates(monkeypatch):
    monkeypatch.setattr(meter, "_rates", type(meter._rates)(maxlen=meter.MAX_RATES))


def create_worker(name="host:1", **columns):
    now = timezone.now()
    defaults = {"started_at": now, "heartbeat_at": now, "device": "cpu", "clip_available": True, "backend": "torch"}
    return EmbeddingWorker.objects.create(name=name, **(defaults | columns))


def test_status_has_the_documented_fields_and_says_why_clip_is_missing():
    response = client_of("viewer").get("/api/gpu/status")
    assert response.status_code == 200
    status = response.json()
    assert set(status) == {
        "available", "device", "gpu_name", "vram", "throughput", "first_run", "clip_available", "error",
        "vram_allocated", "vram_reserved", "workers",
    }  # fmt: skip
    assert (status["clip_available"], status["first_run"], status["throughput"]) == (False, True, None)
    assert "download_model" in status["error"]
    assert status["workers"] == []


def test_clip_info_names_the_model(with_clip):
    assert client_of("viewer").get("/api/clip/info").json() == {
        "available": True,
        "model_name": str(with_clip),
        "embedding_dim": 512,
        "device": "cpu",
        "cache_size_mb": pytest.approx(1.4, abs=0.3),
        "backend": "torch",
    }
    status = gpu_status()
    assert (status["clip_available"], status["first_run"], status["error"]) == (True, False, None)


def test_anonymous_client_gets_no_status():
    assert client_of(None).get("/api/gpu/status").status_code == 401
    assert client_of(None).get("/api/clip/info").status_code == 401


def test_status_describes_the_device_of_the_workers():
    gpu = {"device": "cuda", "gpu_name": "NVIDIA GeForce RTX 3060", "vram_gb": 12.0, "vram_allocated_gb": 0.6}
    create_worker("host:1", **gpu, rates=[150.0] * 10 + [300.0] * 10)
    create_worker("host:2", heartbeat_at=timezone.now() - timedelta(minutes=5), device="mps", rates=[1.0])
    status = gpu_status()
    assert (status["available"], status["device"], status["vram"]) == (True, "cuda", 12.0)
    assert status["gpu_name"] == "NVIDIA GeForce RTX 3060"
    assert status["throughput"] == "150-300"
    assert (status["clip_available"], status["error"]) == (True, None)
    assert [row["name"] for row in status["workers"]] == ["host:1"]


def test_worker_that_cannot_use_clip_reports_the_reason():
    create_worker(clip_available=False, error="its driver is too old")
    assert gpu_status()["error"] == "its driver is too old"


def test_throughput_is_given_as_10th_and_90th_percentile():
    create_worker(rates=[float(rate) for rate in (1000, *range(11, 21), 3)])
    assert throughput() == "11-20"


def test_expected_rate_is_the_sum_over_all_live_workers():
    assert images_per_second() is None
    create_worker("host:1", rates=[10.0, 20.0, 30.0])
    create_worker("host:2", rates=[100.0])
    assert images_per_second() == 120.0


def test_embedding_process_is_registered_as_a_worker_while_it_runs(with_clip, tmp_path):
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg(1))
    with worker.registered():
        clip.process_batch([image] * 20)
        row = EmbeddingWorker.objects.get()
        assert row.is_live
        assert (row.device, row.clip_available, row.model_name) == ("cpu", True, weights.model_id())
    ended = EmbeddingWorker.objects.get()
    assert not ended.is_live
    assert ended.rates
    assert ended.images_done >= 20
    assert throughput() is not None


def test_worker_stores_memory_and_rate_samples_and_deletes_old_ones(monkeypatch):
    monkeypatch.setattr(worker, "SAMPLE_SECONDS", 0)
    old = create_worker("host:1")
    WorkerSample.objects.create(worker=old, taken_at=timezone.now() - timedelta(days=2))
    with worker.registered():
        pass  # one heartbeat at the start and one at the end
    samples = WorkerSample.objects.all()
    assert len(samples) == 2
    assert all(sample.memory_gb and sample.worker != old for sample in samples)


def test_process_with_a_reused_id_keeps_its_measured_rates():
    with worker.registered():
        EmbeddingWorker.objects.update(rates=[100.0])
    with worker.registered():
        assert throughput() == "100-100"


def test_results_that_were_already_finished_are_not_measured(monkeypatch):
    clock = 0.0
    monkeypatch.setattr(meter, "time", types.SimpleNamespace(perf_counter=lambda: clock))
    run = meter.ThroughputMeter(window=8)
    for _ in range(100):
        run.add(8)
    clock = 0.1
    run.close()
    assert meter.recent_rates() == [8000.0]


def test_rows_of_dead_workers_are_deleted():
    create_worker("host:1", heartbeat_at=timezone.now() - timedelta(days=2))
    with worker.registered():
        assert not EmbeddingWorker.objects.filter(name="host:1").exists()


def test_idle_model_is_unloaded_and_loaded_again_when_needed(with_clip, settings, tmp_path):
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg(1))
    before = clip.extract_clip_embedding(image)
    assert not worker.unload_if_idle()  # the default is never
    use_clip(settings, with_clip, tmp_path / "cache", idle_unload_seconds=3600)
    assert not worker.unload_if_idle()
    use_clip(settings, with_clip, tmp_path / "cache", idle_unload_seconds=0.001)
    assert worker.unload_if_idle()
    assert registry.idle_seconds() is None
    assert clip.extract_clip_embedding(image) @ before > 0.99999


def test_device_is_given_with_its_reason(settings, monkeypatch):
    import torch

    # Holds for a CPU build and a CUDA build of torch, with and without a GPU.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_hardware", lambda: None)
    assert device.likely_device() == ("cpu", "No NVIDIA, AMD or Apple GPU was found.")
    info = device.get_device_info()
    assert (info["device"], info["gpu_name"], info["vram_gb"]) == ("cpu", None, None)
    assert info["torch_version"]
    monkeypatch.setattr(device, "_hardware", lambda: "cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "built for the CPU only" in device.get_device_info()["reason"]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "driver is missing or too old" in device.get_device_info()["reason"]
    assert device.likely_device()[0] == "cuda"
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"force_cpu": True}
    assert device.likely_device() == ("cpu", "CLIP_FORCE_CPU is set.")
    assert device.get_device_info()["reason"] == "CLIP_FORCE_CPU is set."


@pytest.mark.parametrize(("hip", "name", "device_name"), [(None, "NVIDIA L4", "cuda"), ("6.0", "AMD Radeon", "rocm")])
def test_gpu_is_named_with_its_memory(hip, name, device_name, monkeypatch):
    import torch

    properties = types.SimpleNamespace(name=name, total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.version, "hip", hip)
    info = device.get_device_info()
    assert (info["device"], info["gpu_name"], info["vram_gb"]) == (device_name, name, 24.0)


def test_device_is_predicted_from_the_hardware_without_loading_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(device, "_hardware", lambda: "rocm")
    assert device.describe_device()["device"] == "rocm"
    assert device.memory_gb() == (None, None)
    assert "torch" not in sys.modules


@pytest.mark.parametrize("work", ["time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"], ids=["hangs", "stops all threads"])
def test_watchdog_ends_a_stuck_worker_with_a_stack_trace(work):
    script = f"""
import ctypes, time
import django
django.setup()
from gpu.monitoring import worker
with worker.watchdog(0.2):
    pass
time.sleep(0.3)
print("alive", flush=True)
def hanging():
    {work}
with worker.watchdog(0.2):
    hanging()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stdout) == (1, "alive\n")
    assert "Timeout (0:00:00.200000)!" in ended.stderr
    assert "in hanging" in ended.stderr
