"""Make stored images again from their kept originals, if an earlier version of the decoding made them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from core.database.batches import iter_pk_batches
from gpu.images import DECODING
from gpu.imaging.errors import ImageProcessingError
from products.images import barcodes, originals, storage
from products.images.cleaning import CleanImage, Upload, clean_image
from products.models import Feature, ProductImage

_BATCH = 64


@dataclass(slots=True)
class Remade:
    """How many images were made again, how many looked the same already, and why others could not be, by id."""

    changed: int = 0
    unchanged: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def outdated_images() -> QuerySet[ProductImage]:
    """Return the images that an earlier version of the decoding made. Some may show wrong colours."""
    return ProductImage.objects.filter(decoding__lt=DECODING)


def outdated_with_original() -> QuerySet[ProductImage]:
    """Return those of ``outdated_images`` that can be made again."""
    return outdated_images().filter(original_bytes__gt=0)


def remake_outdated(check: Callable[[], None]) -> Remade:
    """Make the outdated images again that have an original, and queue those whose pixels changed.

    An image that cannot be made again stays as it is. ``check`` is called after each batch and may raise to stop.
    Then the next call continues.
    """
    result = Remade()
    with ThreadPoolExecutor(settings.DECODERS, "remake") as pool:
        for image_ids in iter_pk_batches(outdated_with_original(), _BATCH):
            images = list(ProductImage.objects.filter(pk__in=image_ids))
            for image, made in zip(images, pool.map(_decode_original, images), strict=True):
                if isinstance(made, str):
                    result.failed[image.pk] = made
                elif hashlib.sha256(made.jpeg).hexdigest() == image.file_sha256:
                    _stamp(image)
                    result.unchanged += 1
                else:
                    _replace_files(image, made)
                    result.changed += 1
            check()
    return result


def _decode_original(image: ProductImage) -> CleanImage | str:
    """Return the image as it is decoded today, or why it cannot be."""
    try:
        data = originals.original_path(str(image.file.name)).read_bytes()
        if hashlib.sha256(data).hexdigest() != image.sha256:
            return "its original is not what was stored"
        return replace(clean_image(Upload(data, image.original_name)), original=data)
    except OSError as error:
        return f"its original cannot be read: {error}"
    except ImageProcessingError as error:
        return f"{error.code}: {error.message}"


def _stamp(image: ProductImage) -> None:
    """Record that today's decoding gives the pixels that are stored."""
    with transaction.atomic():
        if ProductImage.objects.filter(pk=image.pk, file_sha256=image.file_sha256).update(decoding=DECODING):
            Feature.objects.filter(image=image.pk).update(decoding=DECODING)


def _replace_files(image: ProductImage, made: CleanImage) -> None:
    """Store the files under a new name, since browsers keep the old ones, and queue the image.

    Its features stay searchable until a worker replaces them.
    """
    old_name = str(image.file.name)
    with storage.stored_files([made]) as names, storage.saving_rows(names):
        changed = ProductImage.objects.filter(pk=image.pk, file=old_name).update(
            file=names[made.sha256],
            **storage.file_columns(made),
            width=made.width,
            height=made.height,
            decoding=DECODING,
            state=ProductImage.State.PENDING,
            attempts=0,
            error_code="",
            error_message="",
            claim_token=None,  # a worker that has claimed it computes features of the old pixels
            claimed_at=None,
            updated_at=timezone.now(),
        )
        if changed and made.barcodes is not None:
            barcodes.store({image.pk: made.barcodes})
        superseded = old_name if changed else names[made.sha256]
        transaction.on_commit(partial(storage.delete_files, [superseded]))
