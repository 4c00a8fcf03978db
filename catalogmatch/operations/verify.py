"""Find stored data that is inconsistent, and repair what can be repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import OuterRef, Subquery

from core.database.schema import SchemaTooOldError, missing_migrations
from core.outages import damaged_database
from core.progress import ProgressBar
from gpu.imaging.errors import ImageProcessingError
from matching import index
from matching.index import changes, main_file, maintenance
from matching.index.main_file import IndexFileError
from matching.index.validation import invalid_features
from products import integrity
from products.attributes import ShortenedAttributes
from products.exporting import READ_SIZE
from products.images.storage import rebuild_from_original, rebuild_thumbnail
from products.models import Feature, Product, ProductImage
from products.models import triggers as vector_triggers
from products.queue import claims as queue
from products.tasks import notify_workers
from products.text import trigrams

BATCH_ROWS = 500
MAX_NAMED = 1000  # problems of one check; the others are counted

_FIX_REMEDY = "Run `manage.py verify --fix`."
_FILE_REMEDY = "Restore the file from a backup, or delete the image and upload it again."


@dataclass(frozen=True, slots=True)
class Problem:
    """Something inconsistent. ``text`` and ``remedy`` are sentences; ``remedy`` is empty once it is repaired.

    ``count``: how many problems it stands for.
    """

    part: str
    text: str
    remedy: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Verification:
    """Options of a run: whether to repair, and how to draw progress."""

    fix: bool
    bar: ProgressBar

    def repair(self, part: str, text: str, repair: Callable[[], object], count: int = 1) -> Problem:
        """Return a problem that ``repair`` solves, and call it if ``fix`` is set."""
        if not self.fix:
            return Problem(part, text, _FIX_REMEDY, count)
        repair()
        return Problem(part, text, count=count)


class DatabaseDamagedError(Exception):
    """The file of the database is damaged. The message says what to do."""


def verify(run: Verification) -> Iterator[Problem]:
    """Check all rows and files and yield the problems.

    Raises DatabaseError if the database does not respond, and DatabaseDamagedError. A damaged database may make any
    check raise any other error.
    """
    if damage := file_damage("integrity_check"):
        raise DatabaseDamagedError(damaged_database("; ".join(damage[:3])))
    try:
        missing = missing_migrations()
    except SchemaTooOldError as error:
        yield Problem("database", "Its migrations are too old for this version.", str(error))
        return
    if missing:
        text = f"{len(missing)} migrations are missing."
        yield Problem("database", text, "Run `manage.py migrate`, then verify again.")
        return
    # Images come before features, which are computed from the images' files.
    for check in (database, triggers, attributes, claims, images, features, index_files, orphans):
        yield from _bounded(check(run))
    if run.fix:
        notify_workers()


def _bounded(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Yield the first problems of a check, and then how many more there are."""
    yield from islice(problems, MAX_NAMED)
    counts: Counter[bool] = Counter()
    last: dict[bool, Problem] = {}
    for problem in problems:
        counts[bool(problem.remedy)] += problem.count
        last[bool(problem.remedy)] = problem
    for remains, count in counts.items():
        text = f"{count:,} more problems are not named here. The last: {last[remains].text}"
        yield Problem(last[remains].part, text, last[remains].remedy, count)


def database(_run: Verification) -> Iterator[Problem]:
    for damage in broken_references():
        yield Problem("database", f"{damage}.", "Stop CatalogMatch and restore the newest backup.")


def file_damage(pragma: str = "quick_check") -> list[str]:
    """Return what SQLite reports about its file. Other databases check themselves.

    ``integrity_check`` also compares each index with its table. Raises DatabaseError.
    """
    if connection.vendor != "sqlite":
        return []
    if not connection.introspection.table_names() and integrity.has_images_stored():
        # After `migrate`, `verify --fix` would delete the images as orphans.
        return ["it has no tables, but there are images in the data folder"]
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}(20)")
        # SQLite reports damage in a tree over several lines, after a line of asterisks.
        lines = [line for (text,) in cursor.fetchall() for line in str(text).splitlines()]
        return [line for line in lines if line != "ok" and not line.startswith("***")]


def broken_references() -> list[str]:
    """Return the rows of SQLite that refer to missing rows. Other databases do not allow them."""
    if connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA foreign_key_check")
        return [f"Row {row[1]} of {row[0]} refers to a missing row of {row[2]}" for row in cursor.fetchall()]


def triggers(run: Verification) -> Iterator[Problem]:
    if connection.vendor == "sqlite" and (missing := changes.missing_triggers()):
        text = f"The triggers {', '.join(sorted(missing))} are missing, so the search index misses changes."
        yield run.repair("index", text, partial(changes.install_triggers, DEFAULT_DB_ALIAS))
    if missing := vector_triggers.missing_triggers(DEFAULT_DB_ALIAS):
        text = f"The triggers {', '.join(sorted(missing))} are missing, so invalid vectors could be stored."
        yield run.repair("features", text, partial(vector_triggers.install_triggers, DEFAULT_DB_ALIAS))
    if missing := trigrams.missing(DEFAULT_DB_ALIAS):
        text = f"{', '.join(sorted(missing))} is missing, so text searches miss products."
        yield run.repair("text index", text, partial(trigrams.rebuild, DEFAULT_DB_ALIAS))
    elif outdated := trigrams.count_outdated(DEFAULT_DB_ALIAS):
        text = f"The text index differs from {outdated:,} products, so text searches miss them."
        yield run.repair("text index", text, partial(trigrams.rebuild, DEFAULT_DB_ALIAS))


def attributes(run: Verification) -> Iterator[Problem]:
    """Name each product whose attributes are over the limits. Nothing can shorten them without a user."""
    remedy = "They are shown shortened. Replace them on the product's page or through the API."
    products = Product.objects.order_by("pk").values_list("pk", "attributes")
    with run.bar(products.count(), "Products", "products") as bar:
        for pk, stored in products.iterator(READ_SIZE):
            bar.update()
            if isinstance(stored, ShortenedAttributes):
                size = len(stored.text)
                yield Problem("products", f"Product {pk}: its {size:,} characters of attributes break a limit.", remedy)


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
            text = f"{state.kind} {state.model}: {problem}"
            try:
                yield run.repair("index", text, index.rebuild)
            except IndexFileError as error:
                yield Problem("index", text, f"It could not be built again. {error}")


def claims(run: Verification) -> Iterator[Problem]:
    if count := queue.stale_claims().count():
        text = f"{count:,} images are claimed by workers that are gone."
        yield run.repair("queue", text, queue.release_stale_claims)


def features(run: Verification) -> Iterator[Problem]:
    """Check that vectors are valid, belong to their image's product, and exist for each ready image."""
    all_features = Feature.objects.all()
    with run.bar(all_features.count(), "Features", "features") as bar:
        invalid = invalid_features(all_features, bar.update)
    for start in range(0, len(invalid), BATCH_ROWS):
        yield from _invalid_features(run, invalid[start : start + BATCH_ROWS])
    unchecked = all_features.filter(checksum=None)
    if count := unchecked.count():
        text = f"{count:,} features have no checksum, because an earlier version stored them."
        repair = partial(integrity.add_missing_feature_checksums, unchecked, BATCH_ROWS)
        yield run.repair("features", text, repair, count)
    misplaced = integrity.misplaced_features()
    if count := misplaced.count():
        product = Subquery(ProductImage.objects.filter(pk=OuterRef("image")).values("product")[:1])
        text = f"{count:,} features have another product than their image."
        yield run.repair("features", text, partial(misplaced.update, product_id=product))
    lacking = list(integrity.images_missing_features().values_list("pk", flat=True))
    if lacking:
        text = f"{len(lacking):,} embedded images have no features, for example image {lacking[0]}."
        yield run.repair("features", text, partial(integrity.requeue_images, lacking))


def _invalid_features(run: Verification, ids: Sequence[int]) -> Iterator[Problem]:
    """Name these features, and compute those again whose image has its unchanged file."""
    # A worker may have replaced some of them since.
    ids = invalid_features(Feature.objects.filter(pk__in=ids))
    rows = list(Feature.objects.filter(pk__in=ids).select_related("image").order_by("pk"))
    lost = {row.pk: reason for row in rows if (reason := integrity.check_file(row.image))}
    if run.fix:
        integrity.replace_features([row.pk for row in rows if row.pk not in lost])
    for row in rows:
        what = "are not what was stored" if row.is_damaged else "are no valid vector"
        text = f"Features {row.pk} ({row.kind} {row.model_name}) of image {row.image_id} "
        text += f"of product {row.product_id} {what}."
        remedy = "" if run.fix else _FIX_REMEDY
        if reason := lost.get(row.pk):
            remedy = f"They cannot be computed again, because {reason.removesuffix('.')}. {_FILE_REMEDY}"
        yield Problem("features", text, remedy)


def images(run: Verification) -> Iterator[Problem]:
    """Check that the file, thumbnail and original of each image are what was stored."""
    rows = ProductImage.objects.order_by("pk")
    unchecked: list[ProductImage] = []
    count = 0
    with run.bar(rows.count(), "Images", "images") as bar:
        for image in rows.iterator(BATCH_ROWS):
            bar.update()
            problems = list(_image(run, image))
            # An image that was deleted since the query has rightly lost its files.
            if problems and ProductImage.objects.filter(pk=image.pk).exists():
                yield from problems
            elif not problems and not (image.file_sha256 and image.thumbnail_sha256):
                count += 1
                unchecked += [image] if run.fix else []
                if len(unchecked) >= BATCH_ROWS:
                    integrity.add_missing_checksums(unchecked)
                    unchecked.clear()
    if count:
        text = f"{count:,} images lack the checksum of a file, because an earlier version stored them."
        yield run.repair("files", text, partial(integrity.add_missing_checksums, unchecked), count)


def _image(run: Verification, image: ProductImage) -> Iterator[Problem]:
    """Check the files of one image, and make again what another of its files allows."""
    name = f"Image {image.pk} of product {image.product_id}"
    file_name = str(image.file.name)
    original = integrity.check_original(image)
    if reason := integrity.check_file(image):
        text = f"{name}: {reason.removesuffix('.')}."
        if original is None and integrity.has_original(image):
            yield _rebuild(run, image, text, partial(rebuild_from_original, file_name))
        else:
            yield Problem("files", text, _FILE_REMEDY)
    elif reason := integrity.check_thumbnail(image):
        yield _rebuild(run, image, f"{name}: {reason.removesuffix('.')}.", partial(rebuild_thumbnail, file_name))
    if original:
        remedy = f"Restore {integrity.original_path(image)} from a backup, or delete it: only you need it."
        yield Problem("files", f"{name}: {original.removesuffix('.')}.", remedy)


def _rebuild(run: Verification, image: ProductImage, text: str, rebuild: Callable[[], dict[str, str | int]]) -> Problem:
    """Return a problem that is solved by making a file again and storing its checksum."""
    try:
        return run.repair("files", text, lambda: ProductImage.objects.filter(pk=image.pk).update(**rebuild()))
    except (OSError, ImageProcessingError) as error:
        remedy = f"It could not be made again ({error}). Make room on the disk and check the image's file."
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
