"""Find and repair faults of stored images and features, for ``manage.py verify``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError
from gpu.vectors import LEGACY_MODEL
from products.models import Feature, ProductImage
from products.queue.claims import UNCLAIMED

State = ProductImage.State

# A file without a row may be an upload that is just being saved, so only an old file counts as orphaned.
MIN_ORPHAN_AGE_SECONDS = 3600


def check_file(image: ProductImage) -> str | None:
    """Read an image's stored file in full. Return what is wrong with it, or None."""
    path = Path(image.file.path)
    try:
        data = path.read_bytes()
        if image.file_sha256:
            is_same = hashlib.sha256(data).hexdigest() == image.file_sha256
            return None if is_same else "its file is not what was stored"
        decode(data)
    except FileNotFoundError:
        return "its file is missing"
    except OSError as error:
        return f"its file cannot be read: {error}"
    except ImageProcessingError as error:
        return f"its file is damaged: {error.message}"
    return None


def has_thumbnail(image: ProductImage) -> bool:
    """Return whether the thumbnail's file exists and is not empty."""
    path = Path(settings.MEDIA_ROOT) / image.thumbnail_name
    return path.is_file() and path.stat().st_size > 0


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
    """Return ready images that lack legacy features or those of ``embedded_with``."""
    features = Feature.objects.filter(image=OuterRef("pk"))
    complete = Exists(features.filter(model_name=LEGACY_MODEL)) & Exists(
        features.filter(model_name=OuterRef("embedded_with"))
    )
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
