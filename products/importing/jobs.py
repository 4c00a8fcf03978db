"""Imports from the admin: upload, check as a dry run, confirm, import.

A thread of the web process that received the files does the import, so that no worker queue waits behind it.
It continues without an open tab. If its process stops, another thread can resume from the stored files and results.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.base import File
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from core import clock
from core.database.locks import lock_names
from core.errors import UnreadableFileError
from core.files import replacing
from core.history.recording import ChangeSource, acting_as
from core.jobs import HEARTBEAT_SECONDS, MAX_ERROR_LENGTH, STALE_AFTER, SupersededError
from core.outages import outage_of
from core.spreadsheets.reader import may_be_table
from products import quotas, tasks
from products.downloads import queue
from products.downloads.fetcher import fetch_pending
from products.downloads.tasks import notify_fetchers
from products.images.cleaning import safe_file_name
from products.import_retention import delete_expired, discard
from products.importing import undo as import_undo
from products.importing.column_choices import clean_roles, describe, remember, remembered
from products.importing.image_sources import MAX_TABLE_BYTES
from products.importing.importer import RowStatus, import_rows, one_per_image
from products.importing.results import ImportResults
from products.importing.rows import Choices, ImportSource, StoredUpload, open_upload
from products.importing.tables.mapping import NONE, presets
from products.models import Import

logger = logging.getLogger(__name__)

State = Import.State
_OpenSource = AbstractContextManager[ImportSource]


class ColumnsUnknownError(UnreadableFileError):
    """No column tells the products apart. The files are kept, so that the user can choose one for ``job``."""

    def __init__(self, message: str, job: Import) -> None:
        super().__init__(message)
        self.job = job


def receive(user: AbstractBaseUser, files: Sequence[File[bytes]], *, historical: bool = False) -> Import:
    """Store a table, a ZIP of images, or both, and start to check them.

    Discard what the user sent before and did not import. Raises UnreadableFileError, also if the user sends another
    file at the same time, and NoRoomError.
    """
    delete_expired()
    table, archive = _split_files(files)
    job = Import(user_id=user.pk, is_historical=historical)
    job.table_name, job.archive_name = (safe_file_name(file.name or "") if file else "" for file in (table, archive))
    with transaction.atomic():
        lock_names([_lock_of(user)])
        earlier = Import.objects.filter(user_id=user.pk)
        if running := _running(earlier):
            raise UnreadableFileError(_("Your import of %s is still running. Wait until it is done.") % running)
        for unconfirmed in earlier.exclude(state__in=[State.RUNNING, State.DONE, State.UNDOING, State.UNDONE]):
            discard(unconfirmed)
        job.save()
    try:
        quotas.require_room_for_import(sum(file.size or 0 for file in files))
        for file, stored in ((table, _table(job)), (archive, _archive(job))):
            if file is not None and stored is not None:
                _store(file, stored.path)
        with _open(job, remembered) as source:
            job.columns, job.total, job.views = list(source.columns), source.total, source.views
            job.recognised, problem = describe(source), source.problem
            job.chosen = {"roles": source.mapping.chosen} if source.mapping is not None else {}
        if problem and not (job.recognised.get("columns") and source.samples):
            raise UnreadableFileError(problem)
        job.heartbeat(
            columns=job.columns, total=job.total, views=job.views, recognised=job.recognised, chosen=job.chosen
        )
    except (UnreadableFileError, OSError, SupersededError) as error:
        was_replaced = not Import.objects.filter(pk=job.pk).exists()
        discard(job)
        if was_replaced:
            raise UnreadableFileError(_("Another file that you sent at the same time replaced %s.") % job) from error
        raise
    if problem:
        job.end(State.FAILED, problem)
        raise ColumnsUnknownError(problem, job)
    _start(job)
    return job


def choose_columns(job: Import, roles: Mapping[str, str], preset: str = "") -> bool:
    """Check the table again, with its columns as the user chose them, and remember that for its header.

    Return False if the import does not wait for confirmation.
    """
    if not can_choose_columns(job):
        return False
    job.chosen = {"roles": clean_roles(roles, job.columns), "preset": preset if preset in (*presets(), NONE) else ""}
    try:
        with _open(job) as source:
            recognised, problem = describe(source), source.problem
    except UnreadableFileError as error:
        recognised, problem = job.recognised, str(error)
    remember(job.columns, job.chosen["roles"])
    updated = Import.objects.filter(pk=job.pk, token=job.token, state=job.state).update(
        state=State.FAILED if problem else State.CHECKING,
        error=problem[:MAX_ERROR_LENGTH],
        token=uuid.uuid4(),
        counts={},
        done=0,
        chosen=job.chosen,
        recognised=recognised,
        heartbeat_at=timezone.now(),
    )
    if updated and not problem:
        job.refresh_from_db()
        _start(job)
    return bool(updated)


def can_choose_columns(job: Import) -> bool:
    """Return whether the job has a table that waits for confirmation, or whose columns are not known."""
    was_never_confirmed = job.state == State.FAILED and not (job.folder / "results").exists()
    return bool(job.recognised.get("columns")) and (job.state == State.CHECKED or was_never_confirmed)


def confirm(job: Import) -> bool:
    """Import what was checked. Return False if it does not wait for confirmation, or another import runs."""
    token = uuid.uuid4()
    with transaction.atomic():
        lock_names([_lock_of(job.user)])
        if _running(Import.objects.filter(user_id=job.user_id).exclude(pk=job.pk)):
            return False
        updated = Import.objects.filter(pk=job.pk, state=State.CHECKED).update(
            state=State.RUNNING, token=token, counts={}, done=0, heartbeat_at=timezone.now()
        )
    if updated:
        job.refresh_from_db()
        _start(job)
    return bool(updated)


def group_views(job: Import, group: bool) -> bool:
    """Check the files again, with or without taking files as views of a product by their names.

    Return False if the import does not wait for confirmation.
    """
    updated = Import.objects.filter(pk=job.pk, state=State.CHECKED).update(
        state=State.CHECKING, token=uuid.uuid4(), counts={}, done=0, group_views=group, heartbeat_at=timezone.now()
    )
    if updated:
        job.refresh_from_db()
        _start(job)
    return bool(updated)


def resume(job: Import) -> bool:
    """Resume an import whose process stopped. Return False if another thread runs it, or another import runs."""
    with transaction.atomic():
        lock_names([_lock_of(job.user)])
        if _running(Import.objects.filter(user_id=job.user_id).exclude(pk=job.pk)) or not job.take_over():
            return False
    _start(job)
    return True


def results_of(job: Import) -> ImportResults:
    """Return the dry run's results until the import is confirmed, then the import's."""
    return ImportResults(job.folder / ("preview" if is_preview(job) else "results"))


def is_preview(job: Import) -> bool:
    """Return whether the results are those of a dry run."""
    return job.state in (State.CHECKING, State.CHECKED)


def _lock_of(user: AbstractBaseUser) -> str:
    """Return the lock that keeps a user from two imports at once."""
    return f"imports of user {user.pk}"


def _running(imports: QuerySet[Import]) -> Import | None:
    return imports.filter(clock.within("heartbeat_at", STALE_AFTER), state__in=[State.RUNNING, State.UNDOING]).first()


def _split_files(files: Sequence[File[bytes]]) -> tuple[File[bytes] | None, File[bytes] | None]:
    tables = [file for file in files if may_be_table(file.name or "")]
    archives = [file for file in files if PurePath(file.name or "").suffix.lower() == ".zip"]
    for file in files:
        if file not in tables and file not in archives:
            text = _(
                "%s is neither a table nor a ZIP. Save a table of another kind as XLSX or CSV, and put images into a "
                "ZIP."
            )
            raise UnreadableFileError(text % file.name)
    if len(tables) > 1 or len(archives) > 1 or not files:
        raise UnreadableFileError(_("Send one table, one ZIP of images, or one of each."))
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
    with replacing(path) as target:
        for chunk in file.chunks():
            target.write(chunk)


def _open(job: Import, roles: Callable[[Sequence[str]], Mapping[str, str]] | None = None) -> _OpenSource:
    """Open the job's files, with its columns as the user chose them, or as ``roles`` says."""
    chosen: dict[str, str] = job.chosen.get("roles", {})
    choices = Choices(preset=job.chosen.get("preset", ""), roles=roles or (lambda _columns: chosen))
    return open_upload(_table(job), _archive(job), historical=job.is_historical, group=job.group_views, choices=choices)


def _start(job: Import) -> None:
    job.start(partial(_run, job), ChangeSource.IMPORT)


def _run(job: Import) -> None:
    """Check or import, as the state says. Raises SupersededError."""
    try:
        if job.state == State.UNDOING:
            _undo(job)
        else:
            _import(job)
    except UnreadableFileError as error:
        job.end(State.FAILED, str(error))
    except OSError as error:
        outage = outage_of(error)
        if outage is None:
            raise
        logger.warning("import %s stopped: %s", job.pk.hex, error)
        text = _("%(reason)s What was imported until then was kept. Send the files again to continue.")
        job.end(State.FAILED, text % {"reason": outage.detail})


def _import(job: Import) -> None:
    dry_run = job.state == State.CHECKING
    if not dry_run and not any(stored and stored.path.exists() for stored in (_table(job), _archive(job))):
        # All rows are in. Images that could not be fetched are tried again.
        _fetch(job)
        job.end(State.DONE)
        return
    results = results_of(job)
    if dry_run:
        shutil.rmtree(results.folder, ignore_errors=True)
    with results.writer() as writer, _open(job) as source:
        counts = results.counts()
        last_heartbeat = time.monotonic()
        rows = one_per_image(source.rows)
        row_count = sum(not row.part for row in islice(rows, counts.total()))
        for result in import_rows(replace(source, rows=rows), dry_run=dry_run, update=True, job=job):
            writer.write(result)
            counts[result.status.name] += 1
            row_count += not result.row.part
            if time.monotonic() - last_heartbeat > HEARTBEAT_SECONDS:
                quotas.require_room_for_import(0)
                job.heartbeat(counts=dict(counts), done=row_count)
                last_heartbeat = time.monotonic()
        writer.sync()
    job.heartbeat(counts=dict(counts), done=row_count)
    if not counts.total():
        raise UnreadableFileError(_("%s contains no rows and no images.") % job)
    if counts[RowStatus.TO_FETCH.name] and not dry_run:
        _fetch(job)
    job.end(State.CHECKED if dry_run else State.DONE)
    if not dry_run:
        for stored in (_table(job), _archive(job)):
            if stored is not None:
                stored.path.unlink(missing_ok=True)
        if counts[RowStatus.CREATED.name] + counts[RowStatus.IMAGE_ADDED.name] + counts[RowStatus.UPDATED.name]:
            tasks.notify_workers()


def _fetch(job: Import) -> None:
    """Have the workers fetch the images at addresses. Without workers, fetch them here. Raises SupersededError."""
    if settings.HAS_BROKER:
        notify_fetchers()
        return
    last_heartbeat = time.monotonic()

    def check() -> None:
        nonlocal last_heartbeat
        if time.monotonic() - last_heartbeat > HEARTBEAT_SECONDS:
            job.heartbeat()
            last_heartbeat = time.monotonic()

    fetch_pending(lambda _result: None, check, import_id=job.pk)
    tasks.notify_workers()


def undo(job: Import) -> bool:
    """Start to take back what the import made and changed. Return False if it runs or was taken back."""
    with transaction.atomic():
        lock_names([_lock_of(job.user)])
        if _running(Import.objects.filter(user_id=job.user_id)):
            return False
        updated = Import.objects.filter(pk=job.pk, state__in=[State.DONE, State.FAILED]).update(
            state=State.UNDOING, token=uuid.uuid4(), error="", undone={}, heartbeat_at=timezone.now()
        )
    if updated:
        job.refresh_from_db()
        _start(job)
    return bool(updated)


def _undo(job: Import) -> None:
    """Raises SupersededError."""
    last_heartbeat = 0.0

    def heartbeat(undone: dict[str, Any]) -> None:
        nonlocal last_heartbeat
        if time.monotonic() - last_heartbeat > HEARTBEAT_SECONDS:
            job.heartbeat(undone=undone)
            last_heartbeat = time.monotonic()
        job.undone = undone

    # The changes that take it back are not changes of the import.
    with acting_as(ChangeSource.ADMIN, job.user):
        import_undo.undo(job, heartbeat)
    job.heartbeat(undone=job.undone)
    job.end(State.UNDONE)
    tasks.notify_workers()


def retry_downloads(job: Import) -> int:
    """Fetch the images again that could not be fetched. Return their number."""
    token = uuid.uuid4()
    with transaction.atomic():
        lock_names([_lock_of(job.user)])
        if job.state != State.DONE or _running(Import.objects.filter(user_id=job.user_id)):
            return 0
        count = queue.retry(job.downloads.all())
        if count and not settings.HAS_BROKER:
            Import.objects.filter(pk=job.pk).update(state=State.RUNNING, token=token, heartbeat_at=timezone.now())
    if not count:
        return 0
    if settings.HAS_BROKER:
        notify_fetchers()
    else:
        job.refresh_from_db()
        _start(job)
    return count
