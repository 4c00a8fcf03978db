"""What is wrong with this installation, part by part, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.models import Max, Q
from kombu.exceptions import OperationalError

from catalogmatch.celery import app as celery
from catalogmatch.operations.health import MIN_FREE_DISK_BYTES, stalled_queue
from catalogmatch.operations.verify import file_damage
from core.schema import SchemaTooOldError, missing_migrations
from gpu.device import get_device_info
from gpu.encoders.registry import clip_status, is_clip_available
from gpu.encoders.weights import model_id
from gpu.models import EmbeddingWorker
from matching import index
from matching.index.validation import invalid_features
from products.models import Feature, ProductImage
from products.queue.claims import images_without_features_of, stale_claims
from products.queue.claims import pause_switch as queue_switch
from products.queue.claims import queue_counts as queue_counts

LOW_DISK_BYTES = 5 * 2**30
MAX_CHECKED_FILES = 5_000  # pictures whose files are looked for: the newest
MAX_CHECKED_FEATURES = 25_000  # read one by one: all of a small catalogue, else the newest


class Level(StrEnum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part is. ``remedy`` says what to do; it is empty where nothing is to be done."""

    level: Level
    text: str
    remedy: str = ""


def examine() -> dict[str, Finding]:
    """A finding for each part. A part that needs the database fails by itself when that does not answer."""
    findings = {}
    for part, look in PARTS.items():
        try:
            findings[part] = look()
        except DatabaseError as error:
            remedy = "Make the database answer first; see its own line."
            findings[part] = Finding(Level.FAIL, f"cannot be looked at: {error}", remedy)
    return findings


def device() -> Finding:
    """The workers' device where there are workers, else this machine's, asked of torch itself."""
    workers = list(EmbeddingWorker.objects.live())
    if workers:
        devices = ", ".join(sorted({f"{w.device} ({w.gpu_name or w.device_reason})" for w in workers}))
        return Finding(Level.OK, f"{len(workers)} workers on {devices}")
    try:
        info = get_device_info()
    except ImportError as error:
        return Finding(Level.WARN, f"torch cannot be imported: {error}", "Install requirements.txt again.")
    text = f"{info['device']}: {info['reason']}"
    if info["vram_gb"] is not None:
        text += f" {info['vram_gb']} GB."
    if info["device"] == "cpu" and "There is a GPU" in info["reason"]:
        return Finding(Level.WARN, text, "See docs/gpu.md.")
    return Finding(Level.OK, text)


def model() -> Finding:
    """The model's files and the packages that it needs; without it legacy features do."""
    status = clip_status()
    if status.available:
        return Finding(Level.OK, f"{status.model_name}, {status.embedding_dim} dimensions, backend {status.backend}")
    remedy = "Products are compared by legacy features until then."
    return Finding(Level.WARN, f"{status.model_name} cannot be used: {status.reason}", remedy)


def broker() -> Finding:
    """Whether Redis answers and anybody works for it."""
    if not settings.HAS_BROKER:
        return Finding(Level.OK, "none set: whoever uploads also embeds")
    address = celery.connection_for_write().as_uri()  # without the password
    try:
        with celery.connection_for_write() as link:
            link.ensure_connection(max_retries=1, timeout=3)
    except OperationalError as error:
        remedy = "Start Redis or correct CELERY_BROKER_URL. Uploads are taken meanwhile and embedded later."
        return Finding(Level.FAIL, f"{address} does not answer: {error}", remedy)
    number = EmbeddingWorker.objects.live().count()
    if not number:
        remedy = "Start one: `celery -A catalogmatch worker --pool=solo -Q questions,bulk -B`."
        return Finding(Level.WARN, f"{address} answers, but no worker has given a sign of life", remedy)
    return Finding(Level.OK, f"{address} answers; {number} workers")


def database() -> Finding:
    """Its migrations, and what SQLite finds wrong with its file."""
    connection.ensure_connection()
    name = connection.vendor
    try:
        missing = missing_migrations()
    except SchemaTooOldError as error:
        return Finding(Level.FAIL, f"{name}: its migrations are too old", str(error))
    if missing:
        return Finding(Level.FAIL, f"{name}: {len(missing)} migrations are missing", "Run `manage.py migrate`.")
    if damage := file_damage():
        return Finding(Level.FAIL, f"{name}: the file is damaged: {damage[0]}", "Restore a backup.")
    return Finding(Level.OK, f"{name}, all migrations applied")


def features() -> Finding:
    """Vectors that no search can use, and pictures that the current model has not seen."""
    last = Feature.objects.aggregate(last=Max("pk"))["last"] or 0
    left_out = index.invalid_feature_ids()[:MAX_CHECKED_FILES]
    if broken := invalid_features(Feature.objects.filter(Q(pk__gt=last - MAX_CHECKED_FEATURES) | Q(pk__in=left_out))):
        text = f"{len(broken)} features are no usable vectors (feature {broken[0]} for one)"
        return Finding(Level.FAIL, text, "Run `manage.py verify --fix`.")
    number = Feature.objects.count()
    ready = ProductImage.objects.filter(state=ProductImage.State.READY)
    lagging = ready.filter(images_without_features_of(model_id())).count() if is_clip_available() else 0
    if lagging:
        text = f"{lagging:,} of {ready.count():,} pictures are not embedded with {model_id()}"
        return Finding(Level.WARN, text, "Run `manage.py reindex`, or let the workers catch up.")
    return Finding(Level.OK, f"{number:,} of {ready.count():,} pictures")


def search_index() -> Finding:
    """How each kind and model is searched, and whether a file is due."""
    parts = index.describe()
    text = "; ".join(part.text.removesuffix(".") for part in parts) or "nothing to search yet"
    remedies = " ".join(dict.fromkeys(part.remedy for part in parts if part.remedy))
    return Finding(Level.WARN if remedies else Level.OK, text, remedies)


def media() -> Finding:
    """Whether the newest pictures have their files."""
    names = list(ProductImage.objects.order_by("-pk").values_list("file", flat=True)[:MAX_CHECKED_FILES])
    lost = [name for name in names if not default_storage.exists(name)]
    if lost:
        text = f"{len(lost)} of the newest {len(names):,} pictures have no file ({lost[0]} for one)"
        return Finding(Level.FAIL, text, f"Restore {settings.MEDIA_ROOT} from a backup.")
    return Finding(Level.OK, f"the newest {len(names):,} pictures have their files")


def disk() -> Finding:
    """Room in the data folder."""
    free = shutil.disk_usage(settings.DATA_DIR).free
    text = f"{free / 2**30:.1f} GiB free in {settings.DATA_DIR}"
    if free < MIN_FREE_DISK_BYTES:
        return Finding(Level.FAIL, text, "Make room: uploads are about to fail.")
    if free < LOW_DISK_BYTES:
        return Finding(Level.WARN, text, "Make room soon.")
    return Finding(Level.OK, text)


def queue() -> Finding:
    """Whether the queue moves, and what it has given up."""
    counts = queue_counts()
    text = ", ".join(f"{number:,} {state}" for state, number in counts.items())
    if (switch := queue_switch()) is not None and switch.paused:
        text += f"; paused since {switch.changed_at:%Y-%m-%d %H:%M %Z} by {switch.changed_by or 'somebody'}"
        return Finding(Level.WARN, text, "Resume it on the page Device and model.")
    if reason := stalled_queue():
        return Finding(Level.FAIL, f"{text}; {reason}", "Start workers, or run `manage.py reindex`.")
    if stale := stale_claims().count():
        remedy = "The sweep gives them back; without workers, run `manage.py reindex`."
        return Finding(Level.WARN, f"{text}; {stale} claims belong to workers that are gone", remedy)
    if counts["pending"] and not settings.HAS_BROKER:
        return Finding(Level.WARN, text, "Run `manage.py reindex`.")
    if counts["failed"]:
        return Finding(Level.WARN, text, "See the reasons in the admin, then run `manage.py reindex --failed`.")
    return Finding(Level.OK, text)


def web() -> Finding:
    """What pages need: static files where DEBUG is off."""
    if settings.DEBUG:
        return Finding(Level.WARN, "DJANGO_DEBUG is on", "Turn it off where others can reach the server.")
    if not Path(settings.STATIC_ROOT, "staticfiles.json").is_file():
        return Finding(Level.FAIL, "the static files are not collected", "Run `manage.py collectstatic`.")
    return Finding(Level.OK, "static files are collected, DJANGO_DEBUG is off")


PARTS: dict[str, Callable[[], Finding]] = {
    "device": device,
    "model": model,
    "broker": broker,
    "database": database,
    "features": features,
    "index": search_index,
    "media": media,
    "disk": disk,
    "queue": queue,
    "web": web,
}
