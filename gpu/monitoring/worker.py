"""The lifecycle of a worker: its database row, its heartbeat, unloading when idle, ending when stuck."""

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

from gpu import clip, device, throughput
from gpu.backends import background
from gpu.encoders import registry, selection
from gpu.models import HEARTBEAT_SECONDS, SAMPLE_SECONDS, EmbeddingWorker, WorkerSample

logger = logging.getLogger(__name__)

# Rows of stopped workers are kept this long, because they hold the last measured rates.
WORKER_RETENTION = timedelta(days=1)
SAMPLE_RETENTION = timedelta(days=1)
MAX_ERROR_LENGTH = 2000  # characters
MAX_LOAD_SECONDS = 600  # enough for a large model on a slow disk


class _Heartbeat(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.pid = os.getpid()
        self.worker = f"{socket.gethostname()}:{self.pid}"
        self.started_at = timezone.now()
        self.stopping = threading.Event()
        self.sampled_at, self.sampled_images = time.monotonic(), throughput.images_done()

    def beat(self) -> None:
        """Write the row. If the database is not available, the next heartbeat tries again."""
        try:
            now = describe_process()
            if not now["rates"]:
                del now["rates"]  # keep the rates of an earlier process with the same name
            worker, created = EmbeddingWorker.objects.update_or_create(
                name=self.worker, defaults=now, create_defaults={"started_at": self.started_at, **now}
            )
            if created or time.monotonic() - self.sampled_at >= SAMPLE_SECONDS:
                self._sample(worker)
        except DatabaseError as error:
            connection.close()  # this thread serves no requests, so nothing else would replace a broken connection
            logger.warning("The worker's heartbeat could not be written: %s", error)

    def _sample(self, worker: EmbeddingWorker) -> None:
        """Store a sample, and delete the old samples of all workers."""
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
                measure_backends()
                self.beat()
        finally:
            connection.close()  # each thread has its own


_heartbeat: _Heartbeat | None = None
_lock = threading.Lock()


def register() -> None:
    """Register this process as a worker and start its heartbeat.

    Further calls do nothing.
    """
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
            logger.warning("Old worker rows could not be deleted: %s", error)


def unregister() -> None:
    """Stop the heartbeat and mark the row as gone. The row keeps the measured rates."""
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
            logger.warning("The worker could not be marked as gone: %s", error)


@contextmanager
def registered() -> Iterator[None]:
    """Register this process as a worker within the block.

    Used by commands that embed by themselves.
    """
    register()
    try:
        yield
    finally:
        unregister()


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Load the models, then end this process if the block exceeds ``seconds``.

    A hanging device or decoder cannot be interrupted and may hold the GIL, so faulthandler's own thread keeps the time
    and prints all stacks to stderr. The supervisor restarts the process. Only one block at a time.
    """
    stderr = sys.__stderr__ or 2
    try:
        faulthandler.dump_traceback_later(MAX_LOAD_SECONDS, exit=True, file=stderr)
        with suppress(DatabaseError):  # the block meets it too
            for encoder in selection.wanted():
                if encoder.is_available:
                    with suppress(registry.ClipUnavailableError):  # embedding reports the reason
                        registry.get_encoder(encoder.source)
        faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def unload_if_idle() -> bool:
    """Unload a model that was idle for CLIP_IDLE_UNLOAD_SECONDS.

    Returns whether that happened.
    """
    limit = settings.CLIP_CONFIG["idle_unload_seconds"]
    idle = registry.idle_seconds()
    if limit is None or idle is None or idle < limit:
        return False
    clip.unload()
    logger.info("Unloaded the model after %.0f idle seconds.", idle)
    return True


def measure_backends() -> None:
    """Start to measure the backends of a model in use, if that was never done here."""
    try:
        background.measure_if_needed()
    except OSError as error:  # short of memory or processes; the worker goes on as it is
        logger.warning("The backends of this machine could not be measured: %s", error)


def describe_process() -> dict[str, object]:
    """Return the current values of this process's row."""
    in_use = selection.in_use()
    info, status = registry.embedding_device(in_use.source), registry.clip_status(in_use.source)
    encoders = selection.joined(encoder.name for encoder in selection.wanted() if encoder.is_available)
    allocated, reserved = device.memory_gb()
    values: dict[str, object] = {
        "heartbeat_at": timezone.now(),
        "device": info["device"],
        "device_reason": info["reason"],
        "gpu_name": info["gpu_name"] or "",
        "vram_gb": info["vram_gb"],
        "torch_version": info["torch_version"] or "",
        "model_name": encoders or in_use.name,
        "backend": status.backend,
        "clip_available": status.available,
        "error": status.reason or "",
        "rates": throughput.recent_rates(),
        "vram_allocated_gb": allocated,
        "vram_reserved_gb": reserved,
        "images_done": throughput.images_done(),
    }
    return {name: _fitting(name, value) for name, value in values.items()}


def _fitting(column: str, value: object) -> object:
    """Return the value, cut if it is a text that the column cannot hold."""
    limit = getattr(EmbeddingWorker._meta.get_field(column), "max_length", None) or MAX_ERROR_LENGTH
    return value[:limit] if isinstance(value, str) else value
