"""Does everything that is stored hold together? What does not is named, and mended where it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import OuterRef, Subquery

from core.progress import ProgressBar
from core.schema import SchemaTooOldError, missing_migrations
from gpu.imaging.errors import ImageProcessingError
from matching import index
from matching.index import changes, main_file, maintenance
from matching.index.main_file import IndexFileError
from matching.index.validation import invalid_features
from products import integrity
from products.images.storage import rebuild_thumbnail
from products.models import Feature, ProductImage
from products.models import triggers as constraints
from products.queue import claims as queue
from products.tasks import notify_workers

CHUNK = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold. ``remedy`` is empty where it was mended."""

    part: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """How to go about it: ``fix`` mends what can be mended, ``bar`` draws progress."""

    fix: bool
    bar: ProgressBar

    def mended(self, part: str, text: str, mend: Callable[[], object]) -> Problem:
        """A problem that ``mend`` solves, which is called with ``fix`` only."""
        if not self.fix:
            return Problem(part, text, "`verify --fix` mends it.")
        mend()
        return Problem(part, f"{text}: mended")


def verify(job: Verification) -> Iterator[Problem]:
    """Look at everything, whole table by whole table. Raises DatabaseError where the database does not answer."""
    try:
        plan = missing_migrations()
    except SchemaTooOldError as error:
        yield Problem("database", "its migrations are too old", str(error))
        return
    if plan:
        yield Problem("database", f"{len(plan)} migrations are missing", "Run `manage.py migrate`, then verify again.")
        return
    for look in (database, triggers, claims, features, base_files, pictures, files):
        yield from look(job)
    if job.fix:
        notify_workers()


def database(_job: Verification) -> Iterator[Problem]:
    """The database's own opinion of itself."""
    remedy = "Stop everything and restore the newest backup."
    for text in file_damage():
        yield Problem("database", text, remedy)


def file_damage() -> list[str]:
    """What SQLite finds wrong with its file; nothing for other databases, which look after that themselves."""
    if connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(20)")
        found = [str(row[0]) for row in cursor.fetchall() if row[0] != "ok"]
        cursor.execute("PRAGMA foreign_key_check")
        return found + [f"row {row[1]} of {row[0]} names a row of {row[2]} that is gone" for row in cursor.fetchall()]


def triggers(job: Verification) -> Iterator[Problem]:
    """The triggers that migrations install are there."""
    if connection.vendor == "sqlite" and (missing := changes.missing_triggers()):
        text = f"the triggers {', '.join(sorted(missing))} are missing, so changes are not found"
        yield job.mended("index", text, partial(changes.install_triggers, DEFAULT_DB_ALIAS))
    if missing := constraints.missing_triggers(DEFAULT_DB_ALIAS):
        text = f"the triggers {', '.join(sorted(missing))} are missing, so useless vectors may be stored"
        yield job.mended("features", text, partial(constraints.install_triggers, DEFAULT_DB_ALIAS))


def base_files(job: Verification) -> Iterator[Problem]:
    """The index's files are what they should be, where there are any."""
    if connection.vendor != "sqlite":
        return  # PostgreSQL searches by itself
    for state in maintenance.states():
        problem = state.problem
        if state.stamp is not None:
            try:
                main_file.open_files(state.stamp)
            except IndexFileError as error:
                problem = error
        if problem is not None and problem.code != "base_missing":
            yield job.mended("index", f"{state.kind} {state.model}: {problem}".removesuffix("."), index.rebuild)


def claims(job: Verification) -> Iterator[Problem]:
    """Whoever holds a picture is still at work on it."""
    if count := queue.stale_claims().count():
        text = f"{count:,} pictures are claimed by workers that are gone"
        yield job.mended("queue", text, queue.release_stale_claims)


def features(job: Verification) -> Iterator[Problem]:
    """Every vector can be searched, belongs to its picture's product, and no ready picture lacks its own."""
    everything = Feature.objects.all()
    with job.bar(everything.count(), "Features", "features") as bar:
        useless = invalid_features(everything, bar.update)
    if useless:
        text = f"{len(useless):,} features are no usable vectors (feature {useless[0]} for one)"
        yield job.mended("features", text, partial(integrity.replace_features, useless))
    misplaced = integrity.misplaced_features()
    if count := misplaced.count():
        right = Subquery(ProductImage.objects.filter(pk=OuterRef("image")).values("product")[:1])
        text = f"{count:,} features name another product than their picture"
        yield job.mended("features", text, partial(misplaced.update, product_id=right))
    lacking = list(integrity.images_missing_features().values_list("pk", flat=True))
    if lacking:
        text = f"{len(lacking):,} pictures count as embedded and have no such features (picture {lacking[0]} for one)"
        yield job.mended("features", text, partial(integrity.requeue_images, lacking))


def pictures(job: Verification) -> Iterator[Problem]:
    """Every row has its file, unchanged, and a thumbnail."""
    rows = ProductImage.objects.order_by("pk")
    with job.bar(rows.count(), "Pictures", "pictures") as bar:
        for image in rows.iterator(CHUNK):
            bar.update()
            if reason := integrity.check_file(image):
                # Deleted while we looked? Then its file is gone by right.
                if ProductImage.objects.filter(pk=image.pk).exists():
                    remedy = "Take it from a backup, or delete the picture and upload it again."
                    yield Problem("files", f"picture {image.pk} of product {image.product_id}: {reason}", remedy)
            elif not integrity.has_thumbnail(image):
                yield _thumbnail(job, image)


def _thumbnail(job: Verification, image: ProductImage) -> Problem:
    text = f"picture {image.pk} of product {image.product_id} has no thumbnail"
    try:
        return job.mended("files", text, partial(rebuild_thumbnail, str(image.file.name)))
    except (OSError, ImageProcessingError) as error:
        return Problem("files", f"{text} and none can be made: {error}", "Make room on the disk, or see its file.")


def files(job: Verification) -> Iterator[Problem]:
    """Every stored file is named by a row."""
    with job.bar(None, "Files", "folders") as bar:
        for path in integrity.orphaned_files(bar.update):
            try:
                yield job.mended("files", f"{path} belongs to no picture", partial(path.unlink, missing_ok=True))
            except OSError as error:
                yield Problem("files", f"{path} belongs to no picture and stays: {error}", "Delete it by hand.")
