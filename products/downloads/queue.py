"""The queue of images to fetch: add, claim, retry, give up."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from core import clock
from core.database.locks import lock_names
from core.web.fetching import FetchError, Known
from products.models import FetchedAddress, ImageDownload
from products.queue.claims import is_paused

State = ImageDownload.State

RETENTION = timedelta(days=30)  # of downloads that failed
FRESH = timedelta(days=1)  # how long a server that gives no ETag is trusted to have nothing new
_UNCLAIMED: dict[str, Any] = {"claim_token": None, "claimed_at": None}  # nosec B105 # no password


def key_of(sku: str, address: str) -> str:
    """Return the key of an image of a product at an address."""
    return _hash(f"{sku}\0{address}")


def enqueue(downloads: Sequence[ImageDownload]) -> None:
    """Add images to fetch. They replace unfinished and failed ones of the same product and address."""
    for download in downloads:
        download.key = key_of(download.sku, download.address)
    again = Q(key__in={download.key for download in downloads}, state__in=[State.PENDING, State.FAILED])
    with transaction.atomic():
        ImageDownload.objects.filter(again).delete()
        ImageDownload.objects.bulk_create(downloads)


def claim(limit: int, after_host: str = "") -> list[ImageDownload]:
    """Claim up to ``limit`` images that are due, a few of each host, and of each product the first.

    ``after_host``: the host after which to begin, so that each has its turn. The claim counts the attempt, so that an
    image that kills its worker is counted too.
    """
    if limit < 1 or is_paused():
        return []
    release_expired()
    now = timezone.now()
    # A sum, because SQLite 3.40 finds wrong rows by a range over the id at the end of the index.
    others = ImageDownload.objects.annotate(number=F("id") + 0)
    earlier = others.filter(sku=OuterRef("sku"), number__lt=OuterRef("id"), state__in=ImageDownload.UNFINISHED)
    due = ImageDownload.objects.filter(~Exists(earlier), state=State.PENDING, due_at__lte=now)
    due = due.order_by(F("attempts").desc(), "due_at", "id")
    token = uuid.uuid4()
    with transaction.atomic():
        lock_names(["image downloads"])  # for the number of each host
        busy = Counter(
            dict(
                ImageDownload.objects.filter(state=State.CLAIMED).values_list("host").annotate(n=Count("pk")).order_by()
            )
        )
        chosen: list[int] = []
        for host in _waiting_hosts(after_host):
            slots = min(settings.FETCHES_PER_HOST - busy[host], limit - len(chosen))
            if slots > 0:
                chosen += due.filter(host=host).values_list("pk", flat=True)[:slots]
            if len(chosen) >= limit:
                break
        if not chosen:
            return []
        ImageDownload.objects.filter(pk__in=chosen, state=State.PENDING).update(
            state=State.CLAIMED, claim_token=token, claimed_at=now, attempts=F("attempts") + 1
        )
    return list(ImageDownload.objects.filter(claim_token=token).select_related("import_job__user").order_by("id"))


def _waiting_hosts(start: str) -> Iterator[str]:
    """Yield the hosts of pending images, those after ``start`` first. One look into the index for each host."""
    pending = ImageDownload.objects.filter(state=State.PENDING).order_by("host").values_list("host", flat=True)
    host = start
    while (found := pending.filter(host__gt=host).first()) is not None:
        yield (host := found)
    host = ""
    while (found := pending.filter(host__gt=host, host__lte=start).first()) is not None:
        yield (host := found)


def release_expired() -> None:
    """Make images pending again whose worker is gone, or failed after the last attempt."""
    lease = timedelta(seconds=2 * settings.FETCH_SECONDS + settings.CLAIM_LEASE_SECONDS)
    lost = ImageDownload.objects.filter(clock.over("claimed_at", lease), state=State.CLAIMED)
    if lost.exists():
        message = "The worker stopped while it fetched this address."
        is_last = Q(attempts__gt=len(settings.FETCH_PAUSES))
        failure = {"state": State.FAILED, "error_code": "worker_lost", "error_message": message}
        lost.filter(is_last).update(**failure, **_UNCLAIMED)
        lost.update(state=State.PENDING, **_UNCLAIMED)


def release(downloads: Iterable[ImageDownload]) -> None:
    """Give claimed images back and take back the attempt: they are not at fault."""
    for download in downloads:
        _own(download).update(state=State.PENDING, attempts=F("attempts") - 1, **_UNCLAIMED)


def still_claimed(downloads: Sequence[ImageDownload]) -> set[int]:
    """Return the ids of the images that their claim still holds. An import may be taken back meanwhile."""
    tokens = {download.claim_token for download in downloads}
    held = ImageDownload.objects.filter(pk__in=[download.pk for download in downloads], claim_token__in=tokens)
    return set(held.values_list("pk", flat=True))


def finish(download: ImageDownload, outcome: str) -> None:
    """Record how an image came in. Without an import to show it, the download is forgotten."""
    if download.import_job_id is None:
        _own(download).delete()
    else:
        _own(download).update(state=State.DONE, outcome=outcome, error_code="", error_message="", **_UNCLAIMED)


def fail(download: ImageDownload, code: str, message: str, *, pause: float | None = None) -> bool:
    """Record why an image could not be fetched. Return whether that was the last attempt.

    ``pause``: seconds until the next attempt, None for no further one.
    """
    values: dict[str, Any] = {"error_code": code, "error_message": message[:500], **_UNCLAIMED}
    if pause is None:
        _own(download).update(state=State.FAILED, **values)
    else:
        _own(download).update(state=State.PENDING, due_at=timezone.now() + timedelta(seconds=pause), **values)
    return pause is None


def pause_after(attempts: int, error: FetchError) -> float | None:
    """Return the seconds to wait after this many attempts, or None to give up."""
    if not error.temporary or attempts > len(settings.FETCH_PAUSES):
        return None
    return max(settings.FETCH_PAUSES[attempts - 1], error.retry_after)


def give_up_host(host: str, code: str, message: str) -> list[ImageDownload]:
    """Fail all images that wait for a host. Return them."""
    waiting = list(ImageDownload.objects.filter(host=host, state=State.PENDING))
    ImageDownload.objects.filter(host=host, state=State.PENDING).update(
        state=State.FAILED, error_code=code, error_message=message[:500]
    )
    return waiting


def retry(downloads: QuerySet[ImageDownload]) -> int:
    """Make failed images pending again. Return their number."""
    return downloads.filter(state=State.FAILED).update(
        state=State.PENDING, attempts=0, due_at=timezone.now(), error_code="", error_message=""
    )


def unfetched_by_commands() -> QuerySet[ImageDownload]:
    """Return the images that could not be fetched for an import that no page shows."""
    return ImageDownload.objects.filter(import_job=None, state=State.FAILED)


def has_pending() -> bool:
    """Return whether an image waits to be fetched and the queue is not paused."""
    return ImageDownload.objects.filter(state=State.PENDING).exists() and not is_paused()


def seconds_to_next() -> float | None:
    """Return the seconds until an image is due, or None if none waits."""
    first = ImageDownload.objects.filter(state=State.PENDING).aggregate(first=Min("due_at"))["first"]
    return None if first is None else max(0.0, (first - timezone.now()).total_seconds())


def delete_expired() -> None:
    """Delete downloads that no page shows any more."""
    orphans = ImageDownload.objects.filter(import_job=None)
    orphans.filter(state=State.DONE).delete()
    orphans.filter(clock.over("created_at", RETENTION), state=State.FAILED).delete()


def known_of(downloads: Iterable[ImageDownload]) -> dict[str, FetchedAddress]:
    """Return what is known of the addresses of these images, by address."""
    keys = {_hash(download.address): download.address for download in downloads}
    return {keys[known.key]: known for known in FetchedAddress.objects.filter(key__in=keys)}


def remember(address: str, known: Known, sha256: str) -> None:
    """Keep what a server said about an address."""
    FetchedAddress.objects.update_or_create(
        key=_hash(address),
        defaults={
            "etag": known.etag,
            "last_modified": known.last_modified,
            "sha256": sha256,
            "fetched_at": timezone.now(),
        },
    )


def _own(download: ImageDownload) -> Any:
    return ImageDownload.objects.filter(pk=download.pk, claim_token=download.claim_token)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
