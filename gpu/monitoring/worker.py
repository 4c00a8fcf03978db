"""The life of a process that embeds: its row in the database, its heartbeat, unloading when idle, ending when stuck."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from gpu import device, throughput
from gpu.encoders import registry, weights
from gpu.models import HEARTBEAT_SECONDS, SAMPLE_SECONDS, EmbeddingWorker, WorkerSample

logger = logging.getLogger(__name__)

# Rows of workers that are gone are kept this long, for the last rates that were measured.
WORKER_RETENTION = timedelta(days=1)
SAMPLE_RETENTION = timedelta(days=1)
MAX_LOAD_SECONDS = 600  # loading a model takes no longer, also from a slow disk


class _Heartbeat(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.pid = os.getpid()
        self.worker = f"{socket.gethostname()}:{self.pid}"
        self.started_at = timezone.now()
        self.stopping = threading.Event()
        self.sampled_at, self.sampled_images = time.monotonic(), throughput.images_done()

    def beat(self) -> None:
        """Write the row. A database that cannot be written to now is tried again at the next beat."""
        try:
            now = describe_process()
            if not now["rates"]:
                del now["rates"]  # what the process of this number measured before is better than nothing
            worker, created = EmbeddingWorker.objects.update_or_create(
                name=self.worker, defaults=now, create_defaults={"started_at": self.started_at, **now}
            )
            if created or time.monotonic() - self.sampled_at >= SAMPLE_SECONDS:
                self._sample(worker)
        except DatabaseError as error:
            logger.warning("The worker's sign of life could not be written: %s", error)

    def _sample(self, worker: EmbeddingWorker) -> None:
        """Leave a sample, and forget those of all workers that are older than what is drawn."""
        now, images = time.monotonic(), throughput.images_done()
        seconds = max(now - self.sampled_at, 1.0)
        WorkerSample.objects.create(
            worker=worker,
            taken_at=worker.heartbeat_at,
            memory_gb=device.process_memory_gb(),
            vram_reserved_gb=worker.vram_reserved_gb,
            images_per_second=round((images - self.sampled_images) / seconds, 1),
        )
        self.sampled_at, self.sampled_images = now, images
        WorkerSample.objects.filter(taken_at__lt=worker.heartbeat_at - SAMPLE_RETENTION).delete()

    def run(self) -> None:
        try:
            while not self.stopping.wait(HEARTBEAT_SECONDS):
                unload_if_idle()
                self.beat()
        finally:
            connection.close()  # this thread's own


_heartbeat: _Heartbeat | None = None
_lock = threading.Lock()


def register() -> None:
    """Announce this process as a worker and keep its heart beating; further calls in the same process do nothing."""
    global _heartbeat
    with _lock:
        if _heartbeat is not None and _heartbeat.pid == os.getpid() and _heartbeat.is_alive():
            return
        _heartbeat = _Heartbeat()
        _heartbeat.beat()
        _heartbeat.start()
        try:
            EmbeddingWorker.objects.filter(heartbeat_at__lt=timezone.now() - WORKER_RETENTION).delete()
        except DatabaseError as error:
            logger.warning("Workers that are gone could not be forgotten: %s", error)


def unregister() -> None:
    """Stop the heartbeat and make the row say that this worker is gone; it keeps the rates that were measured."""
    global _heartbeat
    with _lock:
        heartbeat, _heartbeat = _heartbeat, None
        if heartbeat is None or heartbeat.pid != os.getpid():
            return
        heartbeat.stopping.set()
        heartbeat.join(HEARTBEAT_SECONDS)
        heartbeat.beat()
        gone = timezone.now() - timedelta(hours=1)
        try:
            EmbeddingWorker.objects.filter(name=heartbeat.worker).update(heartbeat_at=gone)
        except DatabaseError as error:
            logger.warning("The worker could not say that it is gone: %s", error)


@contextmanager
def registered() -> Iterator[None]:
    """Be a worker for the length of the block: what a long command does that embeds in its own process."""
    register()
    try:
        yield
    finally:
        unregister()


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Load the model, then end this process if the block takes longer, with the stacks of all threads on stderr.

    A device or a decoder that hangs cannot be interrupted and may hold the interpreter's lock, so the time is kept by
    faulthandler's own thread. Whoever supervises the process starts it again. For one block at a time.
    """
    stderr = sys.__stderr__ or 2
    try:
        faulthandler.dump_traceback_later(MAX_LOAD_SECONDS, exit=True, file=stderr)
        if registry.is_clip_available():
            with suppress(registry.ClipUnavailableError):  # whoever embeds says why
                registry.get_encoder()
        faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def unload_if_idle() -> bool:
    """Unload the model when it was not used for CLIP_IDLE_UNLOAD_SECONDS; whether it was unloaded now."""
    limit = settings.CLIP_CONFIG["idle_unload_seconds"]
    idle = registry.idle_seconds()
    if limit is None or idle is None or idle < limit:
        return False
    registry.unload()
    logger.info("The model was idle for %.0f seconds and is unloaded.", idle)
    return True


def describe_process() -> dict[str, object]:
    """This process now, as the columns of its row."""
    info, status = device.describe_device(), registry.clip_status()
    allocated, reserved = device.memory_gb()
    return {
        "heartbeat_at": timezone.now(),
        "device": info["device"],
        "device_reason": info["reason"],
        "gpu_name": info["gpu_name"] or "",
        "vram_gb": info["vram_gb"],
        "torch_version": info["torch_version"] or "",
        "model_name": weights.model_id(),
        "backend": status.backend,
        "clip_available": status.available,
        "error": status.reason or "",
        "rates": throughput.recent_rates(),
        "vram_allocated_gb": allocated,
        "vram_reserved_gb": reserved,
        "images_done": throughput.images_done(),
    }
