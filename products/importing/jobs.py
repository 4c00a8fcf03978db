"""Imports that a person follows on a page: sent, checked, confirmed by the same person, done; a day later forgotten.

The work is done by a thread of the process that took the files, where uploads are decoded too, so no worker's queue
waits behind it and no tab need stay open. What is kept lets another thread go on when that process was stopped.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePath

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.base import File
from django.utils import timezone
from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.history.recording import ChangeSource as By
from core.jobs import HEARTBEAT_SECONDS, STALE_AFTER
from core.spreadsheets.reader import is_table
from products import tasks
from products.images.cleaning import safe_file_name
from products.import_retention import delete_expired, discard
from products.importing.image_sources import MAX_TABLE_BYTES
from products.importing.importer import RowStatus, import_rows
from products.importing.results import ImportResults
from products.importing.rows import ImportSource, StoredUpload, open_upload
from products.models import Import

State = Import.State


def receive(user: AbstractBaseUser, files: Sequence[File[bytes]], *, historical: bool = False) -> Import:
    """Keep the files and start to check them: a table, a ZIP with pictures, or both. Raises UnreadableFileError.

    What the person sent before and did not import is discarded.
    """
    delete_expired()
    table, archive = _told_apart(files)
    earlier = Import.objects.filter(user_id=user.pk)
    at_work = earlier.filter(state__in=[State.CHECKING, State.RUNNING], heartbeat_at__gte=timezone.now() - STALE_AFTER)
    if busy := at_work.filter(state=State.RUNNING).first():
        raise UnreadableFileError(_("Your import of %s is still at work. Wait for its end.") % busy)
    for one in earlier.exclude(state__in=[State.RUNNING, State.DONE]):
        discard(one)
    job = Import(user_id=user.pk, is_historical=historical)
    job.table_name, job.archive_name = (safe_file_name(file.name or "") if file else "" for file in (table, archive))
    job.save()
    try:
        for file, kept in ((table, _table(job)), (archive, _archive(job))):
            if file is not None and kept is not None:
                _store(file, kept.path)
        with _open(job) as source:
            job.columns, job.total = list(source.columns), source.total
        job.save(update_fields=["columns", "total"])
    except (UnreadableFileError, OSError):
        discard(job)
        raise
    _start(job)
    return job


def confirm(job: Import) -> bool:
    """Import what was checked; False when it is not waiting for that (any more)."""
    token = uuid.uuid4()
    won = Import.objects.filter(pk=job.pk, state=State.CHECKED).update(
        state=State.RUNNING, token=token, counts={}, heartbeat_at=timezone.now()
    )
    if won:
        job.refresh_from_db()
        _start(job)
    return bool(won)


def resume(job: Import) -> bool:
    """Take up an import whose process was stopped; False when somebody works on it."""
    won = job.take_over()
    if won:
        _start(job)
    return won


def results_of(job: Import) -> ImportResults:
    """The results of an import: what it would do until it is confirmed, then what it did."""
    is_preview = job.state in (State.CHECKING, State.CHECKED)
    return ImportResults(job.folder / ("preview" if is_preview else "results"))


def _told_apart(files: Sequence[File[bytes]]) -> tuple[File[bytes] | None, File[bytes] | None]:
    tables = [file for file in files if is_table(file.name or "")]
    archives = [file for file in files if PurePath(file.name or "").suffix.lower() == ".zip"]
    for file in files:
        if file not in tables and file not in archives:
            text = _(
                "%s is neither a CSV, an XLSX nor a ZIP. Save a table of another kind as XLSX or CSV, and pack "
                "pictures into a ZIP."
            )
            raise UnreadableFileError(text % file.name)
    if len(tables) > 1 or len(archives) > 1 or not files:
        raise UnreadableFileError(_("Send one table, one ZIP with pictures, or one of each."))
    if tables and tables[0].size > MAX_TABLE_BYTES:
        text = _("%(file)s is larger than %(limit)d MiB. Split it.")
        raise UnreadableFileError(text % {"file": tables[0].name, "limit": MAX_TABLE_BYTES // 2**20})
    return next(iter(tables), None), next(iter(archives), None)


def _table(job: Import) -> StoredUpload | None:
    suffix = PurePath(job.table_name).suffix.lower()
    return StoredUpload(job.folder / f"table{suffix}", job.table_name) if job.table_name else None


def _archive(job: Import) -> StoredUpload | None:
    return StoredUpload(job.folder / "pictures.zip", job.archive_name) if job.archive_name else None


def _store(file: File[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        for chunk in file.chunks():
            target.write(chunk)


def _open(job: Import) -> AbstractContextManager[ImportSource]:
    return open_upload(_table(job), _archive(job), historical=job.is_historical)


def _start(job: Import) -> None:
    job.start(partial(_work, job), By.IMPORT)


def _work(job: Import) -> None:
    """Do what the import's state says. Raises SupersededError."""
    try:
        _import(job)
    except UnreadableFileError as error:
        job.end(State.FAILED, str(error))


def _import(job: Import) -> None:
    dry_run = job.state == State.CHECKING
    results = results_of(job)
    if dry_run:
        shutil.rmtree(results.folder, ignore_errors=True)
    with results.writer() as writer, _open(job) as source:
        counts = results.counts()
        beaten = time.monotonic()
        rest = replace(source, rows=islice(source.rows, counts.total(), None))
        for result in import_rows(rest, dry_run=dry_run, update=True):
            writer.write(result)
            counts[result.status.name] += 1
            if time.monotonic() - beaten > HEARTBEAT_SECONDS:
                job.heartbeat(counts=dict(counts))
                beaten = time.monotonic()
    job.heartbeat(counts=dict(counts))
    if not counts.total():
        raise UnreadableFileError(_("%s holds no rows and no pictures.") % job)
    job.end(State.CHECKED if dry_run else State.DONE)
    if not dry_run:
        for kept in (_table(job), _archive(job)):
            if kept is not None:
                kept.path.unlink(missing_ok=True)
        if counts[RowStatus.CREATED.name] + counts[RowStatus.IMAGE_ADDED.name] + counts[RowStatus.UPDATED.name]:
            tasks.notify_workers()
