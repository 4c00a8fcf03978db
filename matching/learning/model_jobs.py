"""Jobs of the page Models: learn a head, compare two versions, download a model, or measure the encoders.

Each runs in a process of its own with low priority, so that neither the web server nor a worker waits for it. The
process writes progress and heartbeat into the job's row.
"""

from __future__ import annotations

import logging
import subprocess  # nosec B404: runs this project's manage.py
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.utils import timezone

from core import clock
from core.database.locks import lock_names
from core.history.recording import ChangeSource
from core.jobs import HEARTBEAT_SECONDS, STALE_AFTER, SupersededError
from core.outages import DATABASE_OUTAGES
from gpu.encoders import selection, weights
from gpu.encoders.downloads import DownloadError, download_model
from matching.learning.encoder_costs import measure_encoders
from matching.learning.held_out import ComparisonError, resolve
from matching.learning.training import TrainingError, train_and_store
from matching.learning.version_comparison import compare_versions
from matching.models import ModelJob
from products.model_versions import VersionError
from products.models import Product

logger = logging.getLogger(__name__)

KEPT_JOBS = 30
MAX_NAME_LENGTH = 200  # characters of a model's name
NIGHT_HOURS = range(1, 5)  # local time
ONCE_A_NIGHT = timedelta(hours=12)
_CRASHED = "The process of this job ended unexpectedly ({code}). Its log says why. What was in use is unchanged."
_KILLED = "The process of this job was killed, probably because memory ran out. What was in use is unchanged."

State, Kind = ModelJob.State, ModelJob.Kind


class BusyError(Exception):
    """Another job of this kind runs. ``job`` is that job."""

    def __init__(self, job: ModelJob) -> None:
        super().__init__(str(job))
        self.job = job


def start_training(user: AbstractBaseUser | None, *, adopt: bool = False) -> ModelJob:
    """Start to learn a head. ``adopt`` switches to it if it wins. Raises BusyError."""
    return _start(Kind.TRAIN, user, {"adopt": adopt})


def start_nightly() -> ModelJob | None:
    """Start to learn a head that answers if it wins. Return None if that is off, not due, or another job runs."""
    tonight = ModelJob.objects.filter(clock.within("created_at", ONCE_A_NIGHT), kind=Kind.TRAIN, user=None)
    if not settings.TRAIN_NIGHTLY or timezone.localtime().hour not in NIGHT_HOURS or tonight.exists():
        return None
    try:
        return start_training(None, adopt=True)
    except BusyError:
        return None  # the schedule tries again


def start_comparison(user: AbstractBaseUser, a: str, b: str) -> ModelJob:
    """Start to compare two versions. Raises VersionError, ComparisonError and BusyError."""
    first, second = resolve(a).name, resolve(b).name
    if first == second:
        raise ComparisonError(f"{a} and {b} are the same version.")
    return _start(Kind.COMPARE, user, {"a": first, "b": second})


def start_download(user: AbstractBaseUser, name: str) -> ModelJob:
    """Start to download a model from the hub. Raises DownloadError for a name that cannot be one, and BusyError."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise DownloadError("Type the name of a model on the hub, such as clip-ViT-B-32 or facebook/dinov2-small.")
    if weights.is_local(name):
        raise DownloadError(f"{name} is a local model, so there is nothing to download. Name it in CLIP_MODEL.")
    return _start(Kind.DOWNLOAD, user, {"name": name}, total=1)


def start_measurement(user: AbstractBaseUser | None) -> ModelJob:
    """Start to measure what each encoder costs here and reaches on this catalogue. Raises BusyError."""
    job = prepare_measurement(user)
    _launch(job)
    return job


def prepare_measurement(user: AbstractBaseUser | None = None) -> ModelJob:
    """Return the job of a measurement, for ``run`` in this process. Raises BusyError."""
    known = selection.known().keys() | {one.name for one in selection.wanted()}
    return _create(Kind.MEASURE, user, {}, total=len(known))


def resume(job: ModelJob) -> bool:
    """Start a job again whose process has stopped. Return False if it still runs."""
    if not job.take_over():
        return False
    _launch(job)
    return True


def stop(job: ModelJob) -> bool:
    """Stop the job. Return False if it does not run."""
    running = ModelJob.objects.filter(pk=job.pk, state=State.RUNNING)
    return bool(running.update(state=State.STOPPED, token=uuid.uuid4()))


def run(job: ModelJob) -> None:
    """Do the job in this process."""
    try:
        with _beating(job) as progress:
            if job.kind == Kind.TRAIN:
                report = train_and_store(adopt=bool(job.options["adopt"]), progress=progress)
            elif job.kind == Kind.DOWNLOAD:
                model = download_model(job.options["name"])
                report = {
                    "model": model.model_id, "dimensions": model.embedding_dim, "size_mb": round(model.size_mb),
                }  # fmt: skip
            elif job.kind == Kind.MEASURE:
                report = measure_encoders(progress)
            else:
                report = compare_versions(job.options["a"], job.options["b"], progress=progress)
        job.heartbeat(report=report, done=job.total)
    except (TrainingError, ComparisonError, VersionError, DownloadError) as error:
        job.end(State.FAILED, str(error))
    except SupersededError:
        logger.info("model job %s was stopped or taken over", job.pk.hex)
    else:
        job.end(State.DONE)


def _start(kind: str, user: AbstractBaseUser | None, options: dict[str, object], total: int | None = None) -> ModelJob:
    job = _create(kind, user, options, total)
    _launch(job)
    return job


def _create(kind: str, user: AbstractBaseUser | None, options: dict[str, object], total: int | None = None) -> ModelJob:
    if total is None:
        total = Product.objects.filter(is_historical=True).count()
    with transaction.atomic():
        lock_names(["model jobs"])
        alive = ModelJob.objects.filter(clock.within("heartbeat_at", STALE_AFTER), state=State.RUNNING)
        if (running := alive.first()) is not None:
            raise BusyError(running)
        kept = list(ModelJob.objects.values_list("pk", flat=True)[: KEPT_JOBS - 1])
        ModelJob.objects.exclude(pk__in=kept).delete()
        return ModelJob.objects.create(kind=kind, user_id=user.pk if user else None, options=options, total=total)


def _launch(job: ModelJob) -> None:
    transaction.on_commit(lambda: job.start(partial(_supervise, job), ChangeSource.ADMIN))


def _supervise(job: ModelJob) -> None:
    """Run the job's process, and say so in its row if it crashes. End the process if the job was stopped."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run_model_job", str(job.pk)]
    process = subprocess.Popen(  # nosec B603: fixed command, the id is ours
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while True:
        try:
            _output, errors = process.communicate(timeout=HEARTBEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if _was_stopped(job):
                process.terminate()  # a download does not notice it by itself
    if process.returncode:
        logger.error("%s", errors.decode(errors="replace")[-5000:])
        killed = process.returncode < 0
        job.end(State.FAILED, _KILLED if killed else _CRASHED.format(code=process.returncode))


def _was_stopped(job: ModelJob) -> bool:
    try:
        return not ModelJob.objects.filter(pk=job.pk, token=job.token).exists()
    except DATABASE_OUTAGES:
        return False


class _Progress:
    """Counts products. Raises SupersededError once the heartbeat has found that the job was stopped."""

    def __init__(self) -> None:
        self.done = 0
        self.superseded = threading.Event()

    def __call__(self, products: int) -> None:
        self.done += products
        if self.superseded.is_set():
            raise SupersededError


@contextmanager
def _beating(job: ModelJob) -> Iterator[_Progress]:
    """Write the heartbeat and progress every second until the block ends."""
    progress, over = _Progress(), threading.Event()

    def beat() -> None:
        try:
            while not over.wait(HEARTBEAT_SECONDS):
                try:
                    job.heartbeat(done=min(progress.done, job.total))
                except SupersededError:
                    progress.superseded.set()
                    return
                except DATABASE_OUTAGES as error:
                    logger.warning("no heartbeat of model job %s: %s", job.pk.hex, error)
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"heartbeat of {job.pk}", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        over.set()
        thread.join()
