"""Find and repair faults of stored images and features, for ``manage.py verify``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from gpu.encoders import selection
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError
from gpu.vectors import LEGACY_MODEL
from products.images import originals
from products.models import Feature, ProductImage
from products.queue.claims import UNCLAIMED

State = ProductImage.State

# A file without a row may be an upload that is just being saved, so only an old file counts as orphaned.
MIN_ORPHAN_AGE_SECONDS = 3600


def check_file(image: ProductImage) -> str | None:
    """Read an image's stored file in full. Return what is wrong with it, or None."""
    return _check("its file", Path(image.file.path), image.file_sha256)


def check_thumbnail(image: ProductImage) -> str | None:
    """Read an image's thumbnail in full. Return what is wrong with it, or None."""
    return _check("its thumbnail", Path(default_storage.path(image.thumbnail_name)), image.thumbnail_sha256)


def check_original(image: ProductImage) -> str | None:
    """Read an image's original in full. Return what is wrong with it, or None.

    Images that were uploaded while originals were not kept have none.
    """
    return _check("its original", original_path(image), image.sha256) if has_original(image) else None


def has_original(image: ProductImage) -> bool:
    """Return whether there is an original of this image."""
    return original_path(image).exists()


def original_path(image: ProductImage) -> Path:
    """Return the path of an image's original, which need not exist."""
    return originals.original_path(str(image.file.name))


def _check(what: str, path: Path, sha256: str) -> str | None:
    """Compare a file with its checksum. An image without one is decoded."""
    try:
        data = path.read_bytes()
        if sha256:
            return None if hashlib.sha256(data).hexdigest() == sha256 else f"{what} is not what was stored"
        decode(data)
    except FileNotFoundError:
        return f"{what} is missing"
    except OSError as error:
        return f"{what} cannot be read: {error}"
    except ImageProcessingError as error:
        return f"{what} is damaged: {error.message}"
    return None


def add_missing_checksums(images: Sequence[ProductImage]) -> None:
    """Store the checksums that these images lack, of their files as they are now. Raises OSError."""
    checksums: dict[int, dict[str, str]] = {}
    for image in images:
        paths = {"file_sha256": image.file.path, "thumbnail_sha256": default_storage.path(image.thumbnail_name)}
        with suppress(FileNotFoundError):  # the image was deleted since
            checksums[image.pk] = {
                column: getattr(image, column) or hashlib.sha256(Path(path).read_bytes()).hexdigest()
                for column, path in paths.items()
            }
    with transaction.atomic():
        for pk, columns in checksums.items():
            ProductImage.objects.filter(pk=pk).update(**columns)


def add_missing_feature_checksums(features: QuerySet[Feature], batch_rows: int) -> None:
    """Store the checksums of these features as they are now, except those that have one."""
    missing = features.filter(checksum=None).order_by("pk")
    last = 0
    while rows := list(missing.filter(pk__gt=last)[:batch_rows]):
        last = rows[-1].pk
        with transaction.atomic():
            for row in rows:
                # A worker that stored other BLOBs since then has stored their checksum.
                missing.filter(pk=row.pk).update(checksum=row.current_checksum())


def has_images_stored() -> bool:
    """Return whether there is any file of an image."""
    return any((Path(settings.MEDIA_ROOT) / "pictures").glob("*/*"))


def orphaned_files(progress: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """Yield stored files without a row that are older than an hour.

    Read one subfolder at a time, so that memory stays bounded.
    """
    oldest = time.time() - MIN_ORPHAN_AGE_SECONDS
    media = Path(settings.MEDIA_ROOT)
    for folder in (media / "pictures", media / "thumbnails", Path(settings.ORIGINALS_ROOT)):
        for shard in sorted(folder.glob("*")):
            progress()
            if not shard.is_dir():
                yield from [shard] if shard.stat().st_mtime < oldest else []
                continue
            # List the files before the rows, so that a file stored in between is not reported.
            files = [path for path in sorted(shard.iterdir()) if path.stat().st_mtime < oldest]
            rows = ProductImage.objects.filter(file__startswith=f"pictures/{shard.name}/").values_list(
                "file", flat=True
            )
            named = {Path(name).stem for name in rows}  # an original has no extension
            yield from (path for path in files if path.stem not in named)


def images_missing_features() -> QuerySet[ProductImage]:
    """Return ready images that lack legacy features or those of the encoders in ``embedded_with``."""
    features = Feature.objects.filter(image=OuterRef("pk"))
    ready = ProductImage.objects.filter(state=State.READY)
    complete = Q(pk__in=[])
    for value in ready.order_by().values_list("embedded_with", flat=True).distinct():
        has_all = Q(Exists(features.filter(model_name=LEGACY_MODEL)), embedded_with=value)
        for name in selection.names_in(value):
            has_all &= Q(Exists(features.filter(model_name=name)))
        complete |= has_all
    return ProductImage.objects.filter(~complete, state=State.READY)


def misplaced_features() -> QuerySet[Feature]:
    """Return features whose product differs from their image's product."""
    return Feature.objects.exclude(product_id=F("image__product_id"))


def replace_features(feature_ids: Iterable[int]) -> list[int]:
    """Delete invalid features and queue their images again. Return the images' ids."""
    rows = Feature.objects.filter(pk__in=list(feature_ids))
    image_ids = sorted(set(rows.values_list("image_id", flat=True)))
    rows.delete()
    requeue_images(image_ids)
    return image_ids


def requeue_images(image_ids: Sequence[int]) -> None:
    """Queue images as if they were new, except those that a worker has claimed."""
    unclaimed = ProductImage.objects.filter(~Q(state=State.CLAIMED), pk__in=image_ids)
    unclaimed.update(state=State.PENDING, embedded_with="", attempts=0, error_code="", error_message="", **UNCLAIMED)
