"""Check each part of the installation and say what to do about problems."""

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

from catalogmatch.celery import app as celery
from catalogmatch.operations import disk_usage, permissions
from catalogmatch.operations.health import MIN_FREE_DISK_BYTES, queue_problem
from catalogmatch.operations.verify import broken_references, file_damage
from core import outages, redis_state
from core.database.schema import SchemaTooOldError, missing_migrations
from core.disk import MEBIBYTE
from gpu.backends.choice import Choice
from gpu.device import describe_device, get_device_info, likely_device
from gpu.encoders import selection
from gpu.encoders.registry import clip_status, measured_backends
from gpu.models import EmbeddingWorker
from matching import index
from matching.index.validation import invalid_features
from matching.models import Policy
from matching.policy import audit
from matching.quality import self_audit
from products import model_versions
from products.images import remaking
from products.models import Feature, ProductImage
from products.queue.claims import images_to_embed, pause_switch, queue_counts, stale_claims

NEARLY_FULL = 0.95  # the share of a quota; above what the history is pruned to
LOW_DISK_BYTES = 5 * 2**30
MAX_CHECKED_FILES = 5_000  # files of the newest images
MAX_CHECKED_FEATURES = 25_000  # the newest features

_INSTALL_AGAIN = "Install requirements.txt again with pip."
_RESTORE = "Stop CatalogMatch and restore the newest backup."


class Level(StrEnum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part. ``remedy`` says what to do, or is empty."""

    level: Level
    text: str
    remedy: str = ""


def examine() -> dict[str, Finding]:
    """Return a finding for each part. The parts that need the database fail if it cannot be read."""
    findings = {}
    for part, check in PARTS.items():
        try:
            findings[part] = check()
        except Exception as error:  # a damaged database raises more than DatabaseError
            finding = _unreadable(part, error)
            if finding is None:
                raise
            findings[part] = finding
    return findings


def _unreadable(part: str, error: Exception) -> Finding | None:
    """Return a finding for a part whose check could not read the database. None for any other error."""
    outage = outages.outage_of(error)
    if outage is outages.DATABASE_DAMAGED and not isinstance(error, DatabaseError):
        return Finding(Level.FAIL, f"a stored value cannot be read: {error}", _RESTORE)
    if not isinstance(error, DatabaseError):
        return None
    remedy = _RESTORE if outage is outages.DATABASE_DAMAGED else "Start the database or correct DATABASE_URL."
    if part != "database":
        remedy = "Fix the part database first."
    return Finding(Level.FAIL, f"the database cannot be read: {error}", remedy)


def device() -> Finding:
    """Check the devices of the workers, or this machine's if there are none."""
    workers = list(EmbeddingWorker.objects.live())
    if workers:
        devices = ", ".join(sorted({f"{w.device} ({w.gpu_name or w.device_reason})" for w in workers}))
        return Finding(Level.OK, f"{len(workers)} workers on {devices}")
    try:
        # Importing torch takes longer than all other checks. Without a GPU it has nothing to add.
        info = describe_device() if likely_device()[0] == "cpu" else get_device_info()
    except ImportError as error:
        return Finding(Level.WARN, f"torch cannot be imported: {error}", _INSTALL_AGAIN)
    if info["torch_version"] is None:
        return Finding(Level.WARN, "torch is not installed", _INSTALL_AGAIN)
    text = f"{info['device']}: {info['reason']}"
    if info["vram_gb"] is not None:
        text += f" {info['vram_gb']} GB."
    if info["device"] == "cpu" and "There is a GPU" in info["reason"]:
        return Finding(Level.WARN, text, "docs/gpu.md says how to use it.")
    return Finding(Level.OK, text)


def model() -> Finding:
    """Check the CLIP weights and the packages that they need."""
    in_use, environment = selection.in_use(), selection.configured()[0]
    status = clip_status(in_use.source)
    if len(models := EmbeddingWorker.objects.models()) > 1:
        text = f"workers use different models: {', '.join(models)}"
        return Finding(Level.WARN, text, "Restart all workers with the same CLIP_MODEL. Then all images are embedded.")
    if environment.name != in_use.name:
        text = f"{in_use.name} is in use, but CLIP_MODEL is {environment.name}"
        if not environment.is_available:
            text += f", which cannot be used: {clip_status(environment.source).reason}"
        if not in_use.is_available:
            text += f"; {in_use.name} cannot be loaded from {in_use.source}, so search uses legacy features"
        remedy = f"Let it answer with `manage.py switch_model {environment.name}`, or set CLIP_MODEL back."
        return Finding(Level.WARN, text, remedy)
    if status.available:
        text = f"{status.model_name}, {status.embedding_dim} dimensions, backend {status.backend}"
        return Finding(Level.OK, f"{text}{_measured(measured_backends(in_use.source))}")
    remedy = "Products are compared by legacy features until CLIP can be used."
    return Finding(Level.WARN, f"{status.model_name} cannot be used: {status.reason}", remedy)


def _measured(found: Choice | None) -> str:
    """Say what was measured about the backends of a model on this machine, if that decides."""
    if settings.CLIP_CONFIG["backend"] != "auto":
        return ", which CLIP_BACKEND names"
    if found is None:
        return ", not measured on this machine yet (a worker does it, or `manage.py benchmark_backends`)"
    day = found.measured_at[:10]
    if found.backend == found.reference:
        return f", the fastest backend that agrees on {day}"
    return f", {found.result.ratio} × {found.reference} on {day}, the fastest backend that agrees"


def broker() -> Finding:
    """Check that Redis takes reads and writes and that a worker is running."""
    if not settings.HAS_BROKER:
        return Finding(Level.OK, "none is set, so the web process embeds uploads itself")
    if trouble := redis_state.problem(seconds=3):
        remedy = "Correct Redis or CELERY_BROKER_URL. Uploads are still accepted and are embedded later."
        return Finding(Level.FAIL, trouble, remedy)
    address = celery.connection_for_write().as_uri()  # without the password
    number = EmbeddingWorker.objects.live().count()
    if not number:
        remedy = "Start a worker: `celery -A catalogmatch worker --pool=solo -Q questions,bulk -B`."
        return Finding(Level.WARN, f"{address} responds, but no worker has a heartbeat", remedy)
    return Finding(Level.OK, f"{address} responds, {number} workers are running")


def database() -> Finding:
    """Check migrations and, for SQLite, the file."""
    connection.ensure_connection()
    name = connection.vendor
    if damage := file_damage():
        return Finding(Level.FAIL, f"{name}: the file is damaged: {damage[0]}", _RESTORE)
    try:
        missing = missing_migrations()
    except SchemaTooOldError as error:
        return Finding(Level.FAIL, f"{name}: the migrations are too old for this version", str(error))
    if missing:
        return Finding(Level.FAIL, f"{name}: {len(missing)} migrations are missing", "Run `manage.py migrate`.")
    if damage := broken_references():
        return Finding(Level.FAIL, f"{name}: the file is damaged: {damage[0]}", _RESTORE)
    return Finding(Level.OK, f"{name}, all migrations are applied")


def features() -> Finding:
    """Check that the newest vectors are valid, and that the current model has embedded all images."""
    last = Feature.objects.aggregate(last=Max("pk"))["last"] or 0
    known_invalid = index.invalid_feature_ids()[:MAX_CHECKED_FILES]
    checked = Feature.objects.filter(Q(pk__gt=last - MAX_CHECKED_FEATURES) | Q(pk__in=known_invalid))
    if invalid := invalid_features(checked):
        text = f"{len(invalid)} features are damaged or invalid vectors, for example feature {invalid[0]}"
        return Finding(Level.FAIL, text, "Run `manage.py verify --fix`.")
    number = Feature.objects.count()
    ready = ProductImage.objects.filter(state=ProductImage.State.READY)
    encoders = selection.joined(encoder.name for encoder in selection.wanted() if encoder.is_available)
    lagging = ready.filter(images_to_embed()).count()
    if lagging:
        text = f"{lagging:,} of {ready.count():,} images are not embedded with {encoders}"
        return Finding(Level.WARN, text, "Wait for the workers, or run `manage.py reindex`.")
    text = f"{number:,} features of {ready.count():,} images"
    head = model_versions.in_use()
    if head is None:
        return Finding(Level.OK, text)
    known = selection.known()
    if others := [name for name in head.encoders if name not in known or not known[name].is_available]:
        text = f"new images get no vector of {head.version}: {', '.join(others)} cannot be loaded"
        remedy = "Put the files of the model back, or learn a new head with `manage.py train_head --adopt`."
        return Finding(Level.WARN, text, remedy)
    return Finding(Level.OK, f"{text}, {head.version} answers")


def search_index() -> Finding:
    """Check the index of each kind and model."""
    parts = index.describe()
    text = "; ".join(part.text.removesuffix(".") for part in parts) or "there are no features to search yet"
    remedies = " ".join(dict.fromkeys(part.remedy for part in parts if part.remedy))
    return Finding(Level.WARN if remedies else Level.OK, text, remedies)


def media() -> Finding:
    """Check that the newest images have their files."""
    names = list(ProductImage.objects.order_by("-pk").values_list("file", flat=True)[:MAX_CHECKED_FILES])
    missing = [name for name in names if not default_storage.exists(name)]
    if missing:
        text = f"{len(missing)} of the newest {len(names):,} images have no file, for example {missing[0]}"
        return Finding(Level.FAIL, text, f"Restore the files in {settings.MEDIA_ROOT} from a backup.")
    return Finding(Level.OK, f"the newest {len(names):,} images have their files")


def colours() -> Finding:
    """Count the images that an earlier version of the decoding made, whose colours may be wrong."""
    number = remaking.outdated_images().count()
    if not number:
        return Finding(Level.OK, "all images were decoded by this version")
    text = f"{number:,} images were decoded by an earlier version and may show wrong colours"
    if remaking.outdated_with_original().exists():
        return Finding(Level.WARN, text, "Run `manage.py reindex`. It makes them again from their originals.")
    # Nothing is wrong for sure, and nothing can be run against it.
    return Finding(Level.OK, f"{text}; they have no originals. Delete and upload again those that look wrong")


def disk() -> Finding:
    free = shutil.disk_usage(settings.DATA_DIR).free
    text = f"{free / 2**30:.1f} GiB are free in {settings.DATA_DIR}"
    if free < max(MIN_FREE_DISK_BYTES, settings.DISK_RESERVE_BYTES):
        return Finding(Level.FAIL, text, "Make room now, because uploads and imports are refused.")
    if free < LOW_DISK_BYTES:
        return Finding(Level.WARN, text, "Make room soon.")
    return Finding(Level.OK, text)


def storage() -> Finding:
    """Check what each part takes against its quota."""
    sizes = disk_usage.measure()
    quotas = {part: quota for part, quota in settings.QUOTA_BYTES.items() if quota}
    text = ", ".join(
        f"{part} {size / MEBIBYTE:,.1f}" + (f" of {quotas[part] / MEBIBYTE:,.0f}" if part in quotas else "")
        for part, size in sizes.items()
    )
    shares = {part: sizes[part] / quota for part, quota in quotas.items()}
    if full := [part for part, share in shares.items() if share >= NEARLY_FULL]:
        level = Level.FAIL if max(shares.values()) >= 1 else Level.WARN
        names = ", ".join(f"CATALOGMATCH_QUOTA_{part.upper()}_MB" for part in full)
        return Finding(level, f"{text} (MiB)", f"Delete what is not needed, or raise {names}.")
    return Finding(Level.OK, f"{text} (MiB)")


def access() -> Finding:
    """Check that other accounts of the machine cannot read the data folder."""
    paths = permissions.too_open(deep=True)
    if paths:
        text = f"other accounts of this machine can read {paths[0]}"
        text += f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        return Finding(Level.WARN, text, permissions.remedy())
    return Finding(Level.OK, f"only its owner can read {settings.DATA_DIR}")


def queue() -> Finding:
    """Check that the queue is moving and that no images have failed."""
    counts = queue_counts()
    text = ", ".join(f"{number:,} {state}" for state, number in counts.items())
    if (switch := pause_switch()) is not None and switch.paused:
        text += f"; paused since {switch.changed_at:%Y-%m-%d %H:%M %Z} by {switch.changed_by or 'a deleted user'}"
        return Finding(Level.WARN, text, "Resume the queue on the page Device and model.")
    if reason := queue_problem():
        return Finding(Level.FAIL, f"{text}; {reason}", "Start or restart a worker, or run `manage.py reindex`.")
    if stale := stale_claims().count():
        remedy = "Wait for the sweep to release them. If no worker is running, run `manage.py reindex`."
        return Finding(Level.WARN, f"{text}; {stale} images are claimed by workers that are gone", remedy)
    if counts["pending"] and not settings.HAS_BROKER:
        return Finding(Level.WARN, text, "Run `manage.py reindex`.")
    if counts["failed"]:
        return Finding(
            Level.WARN, text, "Read the reasons on the page Device and model, then run `manage.py reindex --failed`."
        )
    return Finding(Level.OK, text)


def policy() -> Finding:
    """Check that no policy was paused by its audit."""
    policies = list(Policy.objects.filter(Q(confirms=True) | Q(calls_new=True)))
    if not policies:
        return Finding(Level.OK, "nothing is decided without a person")
    reasons = {one: one.paused_because or audit.audit_of(one).contradiction for one in policies}
    contradicted = [f"{one}: {reason}" for one, reason in reasons.items() if reason]
    if contradicted:
        text = f"{len(contradicted)} of {len(policies)} policies are paused. {' '.join(contradicted)}"
        return Finding(
            Level.WARN, text, "Look at its decisions on the page Policy. Undo the wrong ones, or let it go on."
        )
    return Finding(Level.OK, f"{len(policies)} policies are on, and no audit contradicts them")


def answers() -> Finding:
    """Check that the newest self-audit found as much as usual."""
    newest = self_audit.latest()
    if newest is None:
        return Finding(Level.OK, "no self-audit was made yet; `manage.py self_audit` makes one")
    text = (
        f"{newest.found} of {newest.expected} planted images were found, {newest.false_alarms} false alarms "
        f"({newest.made_at:%Y-%m-%d})"
    )
    if problem := self_audit.problem_of(newest):
        remedy = "Compare the versions on the page Models, and check the parts features and index."
        return Finding(Level.WARN, f"{text}. {problem}", remedy)
    return Finding(Level.OK, text)


def web() -> Finding:
    """Check DEBUG and the static files."""
    if settings.DEBUG:
        return Finding(Level.WARN, "DJANGO_DEBUG is on", "Turn it off if others can reach the server.")
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
    "colours": colours,
    "disk": disk,
    "storage": storage,
    "access": access,
    "queue": queue,
    "policy": policy,
    "answers": answers,
    "web": web,
}
