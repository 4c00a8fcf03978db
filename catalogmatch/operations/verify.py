"""Find stored data that is inconsistent, and repair what can be repaired."""

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
from products.models import triggers as vector_triggers
from products.queue import claims as queue
from products.tasks import notify_workers

BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """Something inconsistent. ``text`` and ``remedy`` are sentences; ``remedy`` is empty once it is repaired."""

    part: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """Options of a run: whether to repair, and how to draw progress."""

    fix: bool
    bar: ProgressBar

    def repair(self, part: str, text: str, repair: Callable[[], object]) -> Problem:
        """Return a problem that ``repair`` solves, and call it if ``fix`` is set."""
        if not self.fix:
            return Problem(part, text, "Run `manage.py verify --fix`.")
        repair()
        return Problem(part, text)


def verify(run: Verification) -> Iterator[Problem]:
    """Check all rows and files and yield the problems. Raises DatabaseError if the database does not respond."""
    try:
        missing = missing_migrations()
    except SchemaTooOldError as error:
        yield Problem("database", "Its migrations are too old for this version.", str(error))
        return
    if missing:
        text = f"{len(missing)} migrations are missing."
        yield Problem("database", text, "Run `manage.py migrate`, then verify again.")
        return
    for check in (database, triggers, claims, features, index_files, images, orphans):
        yield from check(run)
    if run.fix:
        notify_workers()


def database(_run: Verification) -> Iterator[Problem]:
    for damage in database_damage():
        yield Problem("database", f"{damage}.", "Stop CatalogMatch and restore the newest backup.")


def database_damage() -> list[str]:
    """Return what SQLite reports about its file. Other databases check themselves."""
    if connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(20)")
        damage = [str(row[0]) for row in cursor.fetchall() if row[0] != "ok"]
        cursor.execute("PRAGMA foreign_key_check")
        return damage + [f"Row {row[1]} of {row[0]} refers to a missing row of {row[2]}" for row in cursor.fetchall()]


def triggers(run: Verification) -> Iterator[Problem]:
    if connection.vendor == "sqlite" and (missing := changes.missing_triggers()):
        text = f"The triggers {', '.join(sorted(missing))} are missing, so the search index misses changes."
        yield run.repair("index", text, partial(changes.install_triggers, DEFAULT_DB_ALIAS))
    if missing := vector_triggers.missing_triggers(DEFAULT_DB_ALIAS):
        text = f"The triggers {', '.join(sorted(missing))} are missing, so invalid vectors could be stored."
        yield run.repair("features", text, partial(vector_triggers.install_triggers, DEFAULT_DB_ALIAS))


def index_files(run: Verification) -> Iterator[Problem]:
    if connection.vendor != "sqlite":
        return  # PostgreSQL searches without index files
    for state in maintenance.states():
        problem = state.problem
        if state.stamp is not None:
            try:
                main_file.open_files(state.stamp)
            except IndexFileError as error:
                problem = error
        if problem is not None and problem.code != "base_missing":
            yield run.repair("index", f"{state.kind} {state.model}: {problem}", index.rebuild)


def claims(run: Verification) -> Iterator[Problem]:
    if count := queue.stale_claims().count():
        text = f"{count:,} images are claimed by workers that are gone."
        yield run.repair("queue", text, queue.release_stale_claims)


def features(run: Verification) -> Iterator[Problem]:
    """Check that vectors are valid, belong to their image's product, and exist for each ready image."""
    all_features = Feature.objects.all()
    with run.bar(all_features.count(), "Features", "features") as bar:
        invalid = invalid_features(all_features, bar.update)
    if invalid:
        text = f"{len(invalid):,} features are invalid vectors, for example feature {invalid[0]}."
        yield run.repair("features", text, partial(integrity.replace_features, invalid))
    misplaced = integrity.misplaced_features()
    if count := misplaced.count():
        product = Subquery(ProductImage.objects.filter(pk=OuterRef("image")).values("product")[:1])
        text = f"{count:,} features have another product than their image."
        yield run.repair("features", text, partial(misplaced.update, product_id=product))
    lacking = list(integrity.images_missing_features().values_list("pk", flat=True))
    if lacking:
        text = f"{len(lacking):,} embedded images have no features, for example image {lacking[0]}."
        yield run.repair("features", text, partial(integrity.requeue_images, lacking))


def images(run: Verification) -> Iterator[Problem]:
    """Check that each image has its unchanged file and a thumbnail."""
    rows = ProductImage.objects.order_by("pk")
    with run.bar(rows.count(), "Images", "images") as bar:
        for image in rows.iterator(BATCH_ROWS):
            bar.update()
            if reason := integrity.check_file(image):
                # An image that was deleted since the query has rightly lost its file.
                if ProductImage.objects.filter(pk=image.pk).exists():
                    text = f"Image {image.pk} of product {image.product_id}: {reason.removesuffix('.')}."
                    remedy = "Restore the file from a backup, or delete the image and upload it again."
                    yield Problem("files", text, remedy)
            elif not integrity.has_thumbnail(image):
                yield _thumbnail(run, image)


def _thumbnail(run: Verification, image: ProductImage) -> Problem:
    text = f"Image {image.pk} of product {image.product_id} has no thumbnail."
    try:
        return run.repair("files", text, partial(rebuild_thumbnail, str(image.file.name)))
    except (OSError, ImageProcessingError) as error:
        remedy = f"It could not be created ({error}). Make room on the disk and check the image's file."
        return Problem("files", text, remedy)


def orphans(run: Verification) -> Iterator[Problem]:
    """Check that each stored file belongs to an image."""
    with run.bar(None, "Files", "folders") as bar:
        for path in integrity.orphaned_files(bar.update):
            text = f"{path} belongs to no image."
            try:
                yield run.repair("files", text, partial(path.unlink, missing_ok=True))
            except OSError as error:
                yield Problem("files", text, f"It could not be deleted ({error}). Delete it yourself.")
