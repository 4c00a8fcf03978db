"""Fetch the images of the queue with threads, and save them as an import does."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.utils.translation import gettext as _

from core import clock
from core.history.recording import ChangeSource, acting_as
from core.web.fetching import Fetched, Fetcher, FetchError, Known
from gpu.imaging.errors import ImageProcessingError
from gpu.imaging.limits import JPEG
from products.downloads import queue
from products.images.cleaning import CleanImage, Upload, clean_image
from products.importing.importer import RowResult, RowStatus, save_images
from products.importing.row import Row
from products.merges import product_with_sku
from products.models import FetchedAddress, ImageDownload, ProductImage

logger = logging.getLogger(__name__)

THREADS = 16
IDLE_SECONDS = 0.5  # between two looks at the queue while nothing is due
_ACCEPT = "image/avif,image/webp,image/png,image/jpeg,image/*;q=0.8,*/*;q=0.5"


@dataclass(frozen=True, slots=True)
class _Image:
    """A fetched image with what the server said, or None as ``clean`` if the product has it."""

    clean: CleanImage | None
    known: Known
    sha256: str


@dataclass(frozen=True, slots=True)
class _Task:
    """What a thread needs, read from the database before."""

    address: str
    known: Known | None  # None: the image must be sent, because the product lacks it
    sha256: str
    is_fresh: bool


def fetch_pending(
    report: Callable[[RowResult], None], check: Callable[[], None] = lambda: None, *, import_id: Any = None
) -> None:
    """Fetch pending images until none is left, also those that wait for their next attempt.

    ``report`` is called with the result of each image that came in or failed for good. ``check`` is called often and
    may raise to stop; then the images that are being fetched wait again. ``import_id``: end once no image of this
    import is left. Raises NoRoomError and DATABASE_OUTAGES.
    """
    run = _Run(report)
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
    with Fetcher() as fetcher:
        try:
            while not (import_id is not None and _is_finished(import_id)):
                check()
                run.submit(fetcher, pool)
                if run.in_flight:
                    run.save_finished()
                    continue
                pause = queue.seconds_to_next()
                if pause is None or not queue.has_pending():
                    return
                time.sleep(min(pause, IDLE_SECONDS) or 0.01)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            queue.release(run.in_flight.values())


def _is_finished(import_id: Any) -> bool:
    return not ImageDownload.objects.filter(import_job=import_id, state__in=ImageDownload.UNFINISHED).exists()


class _Run:
    def __init__(self, report: Callable[[RowResult], None]) -> None:
        self.report = report
        self.in_flight: dict[Future[_Image], ImageDownload] = {}
        # When each host began to give no answer at all. An answer of any kind ends it.
        self.silent_since: dict[str, float] = {}
        self.first_tried: dict[int, float] = {}
        self.last_host = ""

    def submit(self, fetcher: Fetcher, pool: ThreadPoolExecutor) -> None:
        claimed = queue.claim(THREADS - len(self.in_flight), self.last_host)
        self.last_host = claimed[-1].host if claimed else self.last_host
        known = queue.known_of(claimed)
        for download in claimed:
            self.first_tried.setdefault(download.pk, time.monotonic())
            task = _task(download, known.get(download.address))
            self.in_flight[pool.submit(_fetch, fetcher, task)] = download

    def save_finished(self) -> None:
        done, _rest = wait(self.in_flight, timeout=IDLE_SECONDS, return_when=FIRST_COMPLETED)
        images: list[tuple[ImageDownload, _Image]] = []
        for future in done:
            download = self.in_flight[future]
            try:
                images.append((download, future.result()))
                self._answered(download)
            except FetchError as error:
                self._failed(download, error)
            except ImageProcessingError as error:
                self._answered(download)
                self._refuse(download, error.code, str(error))
            except Exception as error:  # One image must not stop the others.
                logger.exception("Fetching image %d failed", download.pk)
                self._failed(download, FetchError("fetch_failed", f"Fetching failed: {error}", temporary=True))
        images.sort(key=lambda pair: (str(pair[0].import_job_id), pair[0].pk))
        for _import, group in groupby(images, key=lambda pair: pair[0].import_job_id):
            self._save(list(group))
        for future in done:
            del self.in_flight[future]

    def _save(self, images: list[tuple[ImageDownload, _Image]]) -> None:
        """Save images of one import, in the name of its user."""
        held = queue.still_claimed([download for download, _image in images])
        images = [(download, image) for download, image in images if download.pk in held]
        if not images:
            return
        new = [(row_of(download), image.clean) for download, image in images if image.clean is not None]
        with _as_import(images[0][0]):
            results = iter(list(save_images(new)))
            for download, image in images:
                result = next(results) if image.clean is not None else RowResult(row_of(download), RowStatus.SKIPPED)
                if result.status is RowStatus.REJECTED:
                    self._refuse(download, result.code, result.reason)
                    continue
                queue.remember(download.address, image.known, image.sha256)
                queue.finish(download, result.status.name)
                self.report(result)

    def _failed(self, download: ImageDownload, error: FetchError) -> None:
        if error.answered:
            self._answered(download)
        else:
            self.silent_since.setdefault(download.host, time.monotonic())
        pause = queue.pause_after(download.attempts, error)
        if pause is not None:
            queue.fail(download, error.code, str(error), pause=pause)
            return
        self._refuse(download, error.code, str(error))
        first_tried = self.first_tried.get(download.pk, time.monotonic())
        silent_since = self.silent_since.get(download.host)
        # All attempts of this image failed, and the host has given no answer in all that time.
        if not error.answered and error.temporary and silent_since is not None and silent_since <= first_tried + 1:
            text = _("%(reason)s No address of this host was answered, so the others were not tried.")
            message = text % {"reason": error}
            for other in queue.give_up_host(download.host, error.code, message):
                self.report(RowResult(row_of(other), RowStatus.REJECTED, error.code, message))

    def _refuse(self, download: ImageDownload, code: str, reason: str) -> None:
        queue.fail(download, code, reason)
        self.report(RowResult(row_of(download), RowStatus.REJECTED, code, reason))

    def _answered(self, download: ImageDownload) -> None:
        self.silent_since.pop(download.host, None)


def row_of(download: ImageDownload) -> Row:
    """Return the row of the import from which the image came."""
    return Row(download.row_number, images=(download.address,), sku=download.sku, **download.fields)


@contextmanager
def _as_import(download: ImageDownload) -> Iterator[None]:
    job = download.import_job
    with acting_as(ChangeSource.IMPORT, job.user if job else None, str(job.pk) if job else ""):
        yield


def _task(download: ImageDownload, stored: FetchedAddress | None) -> _Task:
    if stored is None:
        return _Task(download.address, None, "", is_fresh=False)
    product = product_with_sku(download.sku)
    if product is None or not ProductImage.objects.filter(product=product, sha256=stored.sha256).exists():
        return _Task(download.address, None, "", is_fresh=False)
    is_fresh = not (stored.etag or stored.last_modified) and not clock.is_over(stored.fetched_at, queue.FRESH)
    return _Task(download.address, Known(stored.etag, stored.last_modified), stored.sha256, is_fresh)


def _fetch(fetcher: Fetcher, task: _Task) -> _Image:
    """Fetch and check an image, in a thread. Raises FetchError and ImageProcessingError."""
    if task.is_fresh and task.known is not None:
        return _Image(None, task.known, task.sha256)
    fetched: Fetched = fetcher.fetch(task.address, max_bytes=JPEG.max_bytes, accept=_ACCEPT, known=task.known)
    if fetched.data is None:
        return _Image(None, fetched.known, task.sha256)
    sha256 = hashlib.sha256(fetched.data).hexdigest()
    if task.known is not None and sha256 == task.sha256:
        return _Image(None, fetched.known, sha256)
    return _Image(clean_image(Upload(fetched.data, _file_name(task.address))), fetched.known, sha256)


def _file_name(address: str) -> str:
    return address.partition("?")[0].rstrip("/").rpartition("/")[2]
