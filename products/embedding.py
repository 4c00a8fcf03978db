"""The published functions for a product's features: wait for the worker, or embed now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from django.conf import settings
from django.utils.translation import gettext as _

from gpu.images import read_file
from gpu.imaging.errors import ImageProcessingError
from gpu.vectors import CLIP, LEGACY, LEGACY_MODEL
from products.images.cleaning import Upload
from products.images.intake import add_images
from products.models import Product, ProductImage
from products.queue.claims import State, is_paused
from products.queue.embed import best_features, embed_pending
from products.queue.query_features import FeaturesPendingError
from products.tasks import notify_workers

POLL_SECONDS = 0.03  # how often a waiting upload looks whether the worker is done


def wait_for_features(image_ids: Sequence[int], seconds: float) -> str | None:
    """Wait until all these pictures are ready; their feature type, or None when they are not after ``seconds``.

    With a broker the worker is told that somebody waits, so that it takes these pictures first.
    """
    deadline = time.monotonic() + seconds
    images = ProductImage.objects.filter(pk__in=image_ids)
    if is_paused() or (settings.HAS_BROKER and seconds > 0 and not notify_workers(image_ids, urgent=True)):
        deadline = time.monotonic()  # nobody may work or nobody heard: there is nothing to wait for
    while True:
        rows = list(images.values_list("state", "embedded_with"))
        states = {state for state, _ in rows}
        if states == {State.READY}:
            return LEGACY if LEGACY_MODEL in {name for _, name in rows} else CLIP
        if states <= {State.READY, State.FAILED} or time.monotonic() >= deadline:
            return None
        time.sleep(POLL_SECONDS)


def get_or_extract_features(product_id: int, image_path: str | Path) -> np.ndarray:
    """The colour features of a product: the CLIP embedding (dim,) float32, or the legacy colour histogram (256,).

    Comes from the database where the product has features; otherwise the picture at ``image_path`` becomes
    a view of the product and is embedded now. Raises Product.DoesNotExist, ImageProcessingError, and
    FeaturesPendingError where it has to wait, since the queue is paused or a worker is slow.
    """
    product = Product.objects.get(pk=product_id)
    stored = best_features(product.pk)
    if not stored:
        path = Path(image_path)
        added = add_images(product, [Upload(read_file(path), path.name)])
        ids = [image.pk for image in added.images]
        embed_pending(ids)
        wait_for_features(ids, settings.UPLOAD_WAIT_MAX_SECONDS)  # where a worker was quicker to claim it
        stored = best_features(product.pk)
        if not stored:
            added.images[0].refresh_from_db()
            if added.images[0].state != State.FAILED:
                raise FeaturesPendingError(_("The picture of product %d still waits to be embedded.") % product.pk)
            raise ImageProcessingError(added.images[0].error_code, added.images[0].error_message)
    return stored[0].color
