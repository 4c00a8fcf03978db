"""The state of the device and the model for the API, the admin and ``doctor``. Never imports torch."""

from __future__ import annotations

from typing import Any

from gpu import throughput as meter
from gpu.device import memory_gb
from gpu.encoders import selection
from gpu.encoders.registry import clip_status, embedding_device
from gpu.models import EmbeddingWorker


def gpu_status() -> dict[str, Any]:
    """Return the response of GET /api/gpu/status.

    It describes the live workers or, without workers, this process.

    vram: GB or None.
    throughput: such as ``"150-300"``, as ``throughput`` returns it.
    error: why CLIP is not available.
    """
    workers = list(EmbeddingWorker.objects.live())
    source = selection.source_in_use()
    status = clip_status(source)
    best = _best(workers)
    if best is not None:
        allocated = _sum([worker.vram_allocated_gb for worker in workers])
        reserved = _sum([worker.vram_reserved_gb for worker in workers])
        device, gpu_name, vram = best.device, best.gpu_name or None, best.vram_gb
        available = any(worker.clip_available for worker in workers)
        error = None if available else best.error
    else:
        allocated, reserved = memory_gb()
        info = embedding_device(source)
        device, gpu_name, vram = info["device"], info["gpu_name"], info["vram_gb"]
        available, error = status.available, status.reason
    return {
        "available": device != "cpu",
        "device": device,
        "gpu_name": gpu_name,
        "vram": vram,
        "throughput": throughput(),
        "first_run": not status.weights_cached,
        "clip_available": available,
        "error": error,
        "vram_allocated": allocated,
        "vram_reserved": reserved,
        "workers": [_worker(worker) for worker in workers],
    }


def clip_info() -> dict[str, Any]:
    """Return the response of GET /api/clip/info.

    ``cache_size_mb`` is 0 before the model is downloaded.
    """
    source = selection.source_in_use()
    status = clip_status(source)
    best = _best(list(EmbeddingWorker.objects.live()))
    return {
        "available": status.available if best is None else best.clip_available,
        "model_name": status.model_name,
        "embedding_dim": status.embedding_dim,
        "device": embedding_device(source)["device"] if best is None else best.device,
        "cache_size_mb": status.cache_size_mb,
        "backend": status.backend if best is None else best.backend,
    }


def throughput() -> str | None:
    """Return the 10th and 90th percentile of images/s over recent batches.

    The form is ``"150-300"``. Returns None before any batch.
    """
    rates = sorted(_recent_rates())
    if not rates:
        return None
    low, high = rates[(len(rates) - 1) // 10], rates[-1 - (len(rates) - 1) // 10]
    return f"{_format_rate(low)}-{_format_rate(high)}"


def images_per_second() -> float | None:
    """Return the expected rate of all live workers, the sum of their medians, or None."""
    medians = [_median(worker.rates) for worker in EmbeddingWorker.objects.live() if worker.rates]
    if medians:
        return round(sum(medians), 1)
    rates = _recent_rates()
    return _median(rates) if rates else None


def _recent_rates() -> list[float]:
    """Return the rates of live workers, else of this process, else of the last worker."""
    rates = [rate for worker in EmbeddingWorker.objects.live() for rate in worker.rates]
    if rates or (rates := meter.recent_rates()):
        return rates
    last = EmbeddingWorker.objects.exclude(rates=[]).order_by("-heartbeat_at").first()
    return list(last.rates) if last is not None else []


def _best(workers: list[EmbeddingWorker]) -> EmbeddingWorker | None:
    """Return the worker to report: one with CLIP first, then one with a GPU."""
    return max(workers, key=lambda worker: (worker.clip_available, worker.device != "cpu"), default=None)


def _worker(worker: EmbeddingWorker) -> dict[str, Any]:
    return {
        "name": worker.name,
        "device": worker.device,
        "device_reason": worker.device_reason,
        "gpu_name": worker.gpu_name or None,
        "model_name": worker.model_name,
        "backend": worker.backend,
        "clip_available": worker.clip_available,
        "images_done": worker.images_done,
        "heartbeat_at": worker.heartbeat_at,
    }


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 2) if known else None


def _median(rates: list[float]) -> float:
    return sorted(rates)[len(rates) // 2]


def _format_rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
