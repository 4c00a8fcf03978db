"""Search the catalogue by words, by image, or by both ("this mug, in blue")."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from django.utils.translation import gettext as _

from gpu.encoders import selection
from gpu.encoders.registry import ClipUnavailableError, clip_status
from gpu.encoders.selection import Selected
from gpu.search_vectors import search_vector, unit
from gpu.text.encoder import TextVector
from gpu.text.files import TextUnavailableError
from gpu.vectors import CLIP, Features
from matching import service
from matching.service import SearchResult
from products.images.cleaning import Upload
from products.model_versions import Version
from products.models import Feature
from products.queue.query_features import query_features
from products.queue.query_text import query_text

MAX_TEXT_LENGTH = 1000
DEFAULT_IMAGE_WEIGHT = 0.5
# Vectors of texts are far from those of images: even a perfect description of a product rarely scores above 35.
DEFAULT_THRESHOLD_OF_WORDS = 0.0


def search(
    text: str = "",
    uploads: Iterable[Upload] = (),
    image_weight: float = DEFAULT_IMAGE_WEIGHT,
    threshold: float | None = None,
    limit: int | None = None,
    category: str | None = None,
    wait: float = 5.0,
) -> SearchResult:
    """Return the catalogue products that fit words, images of one product, or both.

    Images alone are searched as by ``match_images``. Words are compared in the image encoder's own space, also while a
    learned head is in use: a head has no vector of a text. With both, the query is the mean of the two vectors, where
    ``image_weight`` (0 to 1) is the share of the image. Without ``threshold``, the preference counts for images alone,
    and 0 for words.
    Raises TextUnavailableError if the model has no text encoder, and what ``match_images`` raises.
    """
    uploads = list(uploads)
    if not text:
        return service.match_images(uploads, threshold, limit, category, wait)
    deadline = time.monotonic() + wait
    words = query_text(text, wait)
    model, source = words.features.model_name, selection.source_in_use()
    images = [
        _embedding(query_features(upload, max(0.0, deadline - time.monotonic()), [source]), model, source)
        for upload in uploads
    ]
    queries = [_blend(words.features, image, image_weight) for image in images] or [words.features]
    lowest, limit = service.with_defaults(DEFAULT_THRESHOLD_OF_WORDS if threshold is None else threshold, limit)
    version = Version(None, Selected(model, source), is_forced=True)
    result = service.search_features(queries, version, lowest, limit, category, is_answered=False)
    if not result.candidates and not Feature.objects.filter(kind=CLIP, model_name=model).exists():
        raise TextUnavailableError(
            _("Words cannot be searched yet: no image has a vector of %(model)s. The workers compute them.")
            % {"model": model}
        )
    return replace(result, notice=_notice(words))


def _embedding(features: Sequence[Features], model: str, source: str) -> Features:
    """Return the image's vector of the model that encoded the words. Raises ClipUnavailableError."""
    for item in features:
        if item.kind == CLIP and item.model_name == model:
            return item
    reason = clip_status(source).reason or _("The image was not embedded with the model of the words.")
    raise ClipUnavailableError(reason)


def _blend(words: Features, image: Features, image_weight: float) -> Features:
    """Return the weighted mean of two vectors. That of two opposite ones would be zero, so then the image decides."""
    mean = image_weight * unit(search_vector(image)) + (1 - image_weight) * unit(search_vector(words))
    return Features.from_embedding(mean if np.linalg.norm(mean) > 1e-6 else image.color, image.model_name)


def _notice(words: TextVector) -> str:
    if words.cut_after is None:
        return ""
    return _("The model reads at most %(tokens)d tokens. The rest of the text was not used.") % {
        "tokens": words.cut_after
    }
