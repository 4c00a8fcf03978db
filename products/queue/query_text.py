"""Compute the vector of a query's text, here or in a worker. Nothing is stored."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict

from django.conf import settings

from gpu.encoders import selection
from gpu.text import files
from gpu.text.encoder import TextVector, encode_text
from gpu.text.files import TextUnavailableError
from gpu.vectors import CLIP, Features
from products.queue.questions import ask, leave_result, unreadable_result

# This many texts are remembered in each process. Their vectors take about 2 kB each.
CACHED_TEXTS = 1000

_lock = threading.Lock()
_cached: OrderedDict[tuple[str, str], TextVector] = OrderedDict()


def query_text(text: str, wait: float) -> TextVector:
    """Return the vector of a text in the space of the image encoder.

    With a broker, a worker computes it. It is remembered by text and version of the models. Raises
    TextUnavailableError, and FeaturesPendingError after ``wait`` seconds.
    """
    source = selection.source_in_use()
    if (reason := files.has_no_text_encoder(source)) is not None:
        raise TextUnavailableError(reason)
    key = (files.version(source), text)
    with _lock:
        if (found := _cached.get(key)) is not None:
            _cached.move_to_end(key)
            return found
    found = _ask_worker(text, wait) if settings.HAS_BROKER else encode_text(text)
    with _lock:
        _cached[key] = found
        while len(_cached) > CACHED_TEXTS:
            _cached.popitem(last=False)
    return found


def compute_for_waiting_request(query_id: str, text: str) -> None:
    """Compute the vector of a text in the worker. Leave it, or why there is none, for the waiting request."""
    try:
        vector = encode_text(text)
    except TextUnavailableError as error:
        leave_result(query_id, {"unavailable": str(error)})
        return
    packed = base64.b64encode(vector.features.to_blobs()[0]).decode()
    leave_result(query_id, {"model": vector.features.model_name, "vector": packed, "cut_after": vector.cut_after})


def forget() -> None:
    """Forget all texts."""
    with _lock:
        _cached.clear()


def _ask_worker(text: str, wait: float) -> TextVector:
    result = ask("products.tasks.embed_text", text, wait)
    try:
        if (reason := result.get("unavailable")) is not None:
            raise TextUnavailableError(str(reason)[:500])
        cut_after = result["cut_after"]
        blob = base64.b64decode(result["vector"], validate=True)
        vector = Features.from_blobs(CLIP, str(result["model"]), blob, b"", b"")
        features = Features.from_embedding(vector.color, vector.model_name)  # refuses what is not finite
        return TextVector(features, None if cut_after is None else int(cut_after))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable_result() from error
