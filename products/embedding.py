"""Published API for a product's features: wait for the worker, or embed now."""

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

POLL_SECONDS = 0.03  # between two checks of a waiting upload


def wait_for_features(image_ids: Sequence[int], seconds: float) -> str | None:
    """Wait up to ``seconds`` until these images are ready. Return their feature type.

    Return None if they are not ready then.

    With a broker, an urgent message makes the worker embed these images first.
    """
    deadline = time.monotonic() + seconds
    images = ProductImage.objects.filter(pk__in=image_ids)
    if is_paused() or (settings.HAS_BROKER and seconds > 0 and not notify_workers(image_ids, urgent=True)):
        deadline = time.monotonic()  # no worker will embed them: do not wait
    while True:
        rows = list(images.values_list("state", "embedded_with"))
        states = {state for state, _ in rows}
        if states == {State.READY}:
            return LEGACY if LEGACY_MODEL in {name for _, name in rows} else CLIP
        if states <= {State.READY, State.FAILED} or time.monotonic() >= deadline:
            return None
        time.sleep(POLL_SECONDS)


def get_or_extract_features(product_id: int, image_path: str | Path) -> np.ndarray:
    """Return a product's colour features, and embed an image if it has none.

    They are the CLIP embedding (dim,) float32, or the legacy histogram (256,). Read them from the database if the
    product has features. Otherwise add the image at ``image_path`` to the product and embed it now. Raises
    Product.DoesNotExist, ImageProcessingError, and FeaturesPendingError if the queue is paused or a worker is slow.
    """
    product = Product.objects.get(pk=product_id)
    stored = best_features(product.pk)
    if not stored:
        path = Path(image_path)
        result = add_images(product, [Upload(read_file(path), path.name)])
        ids = [image.pk for image in result.images]
        embed_pending(ids)
        wait_for_features(ids, settings.UPLOAD_WAIT_MAX_SECONDS)  # A worker may have claimed it first.
        stored = best_features(product.pk)
        if not stored:
            image = result.images[0]
            image.refresh_from_db()
            if image.state != State.FAILED:
                raise FeaturesPendingError(_("The image of product %d still waits to be embedded.") % product.pk)
            raise ImageProcessingError(image.error_code, image.error_message)
    return stored[0].color
