"""Explain a match: where its two images match, and what each part of their vectors adds to the score."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from django.conf import settings
from django.utils.translation import gettext as _

from gpu import explain, heads
from gpu.encoders import selection
from gpu.encoders.tokens import Patches, TokenEncoder, TokensUnavailableError, get_token_encoder
from gpu.explain import Contribution
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError
from gpu.search_vectors import search_vector
from gpu.vectors import HEAD, LEGACY, Features
from matching.models import Match
from matching.similarity import LEGACY_FLOOR, score_of
from products.models import Feature, ProductImage
from products.queue.questions import FeaturesPendingError, ask, leave_result, unreadable_result

# This many explanations are remembered in each process. Each takes about 10 kB.
CACHED_EXPLANATIONS = 200

_Key = tuple[int, str, str, tuple[tuple[int, int], ...]]
_lock = threading.Lock()
_cached: OrderedDict[_Key, Explanation] = OrderedDict()


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How much each cell of an image speaks for the match, 0 to 1, row by row.

    The grid covers ``area`` of the image: left, top, width and height, as shares of the image.
    """

    image_id: int
    rows: int
    columns: int
    area: tuple[float, float, float, float]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why two images match. ``parts`` sum to the score, unless that is cut off at 0.

    heat_maps: of the product's image and of the candidate's, or empty, and then ``no_heat_maps`` says why.
    """

    score: float
    image_id: int
    candidate_image_id: int
    parts: list[Contribution]
    heat_maps: list[HeatMap]
    no_heat_maps: str

    @classmethod
    def from_json(cls, data: Any) -> Explanation:
        """Read what a worker left in Redis. Raises ValueError, LookupError, TypeError or AttributeError."""
        maps = [
            HeatMap(
                int(m["image_id"]),
                int(m["rows"]),
                int(m["columns"]),
                _area(m["area"]),
                [_number(v) for v in m["values"]],
            )
            for m in data["heat_maps"]
        ]
        if any(len(found.values) != found.rows * found.columns for found in maps):
            raise ValueError("a heat map without its cells")
        parts = [
            Contribution(str(p["kind"]), str(p["model_name"]), str(p["name"]), _number(p["points"]))
            for p in data["parts"]
        ]
        return cls(
            _number(data["score"]), int(data["image_id"]), int(data["candidate_image_id"]), parts, maps,
            str(data["no_heat_maps"]),
        )  # fmt: skip


def explain_match(match_id: int, wait: float) -> Explanation:
    """Return why a match has its score. With a broker, a worker computes it. It is remembered.

    Raises Match.DoesNotExist, and FeaturesPendingError if a worker needs longer than ``wait`` seconds, or if the
    vectors that were compared no longer exist.
    """
    match = Match.objects.get(pk=match_id)
    key = _key(match)
    with _lock:
        if (found := _cached.get(key)) is not None:
            _cached.move_to_end(key)
            return found
    found = _ask_worker(match_id, wait) if settings.HAS_BROKER else compute(match)
    with _lock:
        _cached[key] = found
        while len(_cached) > CACHED_EXPLANATIONS:
            _cached.popitem(last=False)
    return found


def serialize(match_id: int, found: Explanation) -> dict[str, Any]:
    """Return an explanation as the API shows it, with the addresses of the images.

    Raises FeaturesPendingError if an image was deleted since.
    """
    ids = (found.image_id, found.candidate_image_id)
    urls = {image.pk: image.file.url for image in ProductImage.objects.filter(pk__in=ids)}
    if not set(ids) <= set(urls):
        raise FeaturesPendingError(_("An image of this match was deleted. Match the product again."))
    data = asdict(found) | {"match_id": match_id}
    data |= {"image_url": urls[found.image_id], "candidate_image_url": urls[found.candidate_image_id]}
    for heat_map in data["heat_maps"]:
        heat_map["image_url"] = urls[heat_map["image_id"]]
    return data


def forget() -> None:
    """Forget all explanations."""
    with _lock:
        _cached.clear()


def compute_for_waiting_request(query_id: str, match_id: int) -> None:
    """Compute an explanation in the worker. Leave it, or why there is none, for the waiting request."""
    try:
        leave_result(query_id, asdict(compute(Match.objects.get(pk=match_id))))
    except Match.DoesNotExist:
        leave_result(query_id, {"deleted": True})
    except FeaturesPendingError as error:
        leave_result(query_id, {"pending": str(error)})


def compute(match: Match) -> Explanation:
    """Compute why a match has its score, in this process. Raises FeaturesPendingError."""
    own, other = _best_pair(match)
    parts, floor = _parts(own, other)
    contributions = explain.points(parts, floor)
    score = score_of(sum(dot for _kind, _model, _name, dot in parts), match.feature_type, floor)
    try:
        heat_maps, reason = _heat_maps([own.image, other.image]), ""
    except (TokensUnavailableError, ImageProcessingError) as error:
        heat_maps, reason = [], str(error)
    return Explanation(score, own.image_id, other.image_id, contributions, heat_maps, reason)


def _ask_worker(match_id: int, wait: float) -> Explanation:
    result = ask("matching.tasks.explain", match_id, wait)
    try:
        if result.get("deleted"):
            raise Match.DoesNotExist(f"Match {match_id} was deleted.")
        if (reason := result.get("pending")) is not None:
            raise FeaturesPendingError(str(reason)[:500])
        return Explanation.from_json(result)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable_result() from error


def _key(match: Match) -> _Key:
    """Return what changes whenever the explanation does: the vectors of both products, and the model."""
    rows = _features(match).order_by("pk").values_list("pk", "checksum")
    return match.pk, match.model_name, selection.in_use().name, tuple(rows)


def _features(match: Match) -> Any:
    return Feature.objects.filter(
        product__in=(match.product_id, match.candidate_id), kind=match.feature_type, model_name=match.model_name
    )


def _best_pair(match: Match) -> tuple[Feature, Feature]:
    """Return the features of the two images that decided the score. Raises FeaturesPendingError."""
    by_product: dict[int, list[Feature]] = {match.product_id: [], match.candidate_id: []}
    for row in _features(match).select_related("image").order_by("pk"):
        if not row.is_damaged:
            by_product[row.product_id].append(row)
    own, other = by_product[match.product_id], by_product[match.candidate_id]
    if not own or not other:
        raise FeaturesPendingError(
            _("The vectors of this match no longer exist. Match the product again to have it explained.")
        )
    dots = _vectors(own) @ _vectors(other).T
    first, second = np.unravel_index(int(dots.argmax()), dots.shape)
    return own[int(first)], other[int(second)]


def _vectors(rows: Sequence[Feature]) -> Any:
    return np.stack([search_vector(row.to_features()) for row in rows]).astype(np.float64)


def _parts(own: Feature, other: Feature) -> tuple[list[tuple[str, str, str, float]], float]:
    """Return the dot product of each part of two vectors, and the dot product of a score of 0."""
    features = own.to_features()
    plain = explain.plain_contributions(features, search_vector(features), search_vector(other.to_features()))
    if own.kind != HEAD:
        return plain, LEGACY_FLOOR if own.kind == LEGACY else 0.0
    head = heads.load(own.model_name)
    if head is None:
        raise FeaturesPendingError(_("The learned head of this match was deleted. Match the product again."))
    joined = [heads.join(head.parts, _other_features(row)) for row in (own, other)]
    if joined[0] is None or joined[1] is None:
        return plain, head.score_floor
    return explain.head_contributions(head, joined[0], joined[1]), head.score_floor


def _other_features(row: Feature) -> dict[tuple[str, str], Features]:
    rows = Feature.objects.filter(image=row.image_id).exclude(kind=HEAD)
    return {(found.kind, found.model_name): found.to_features() for found in rows if not found.is_damaged}


def _heat_maps(images: Sequence[ProductImage]) -> list[HeatMap]:
    """Return the maps of two images. Each core encodes one. Raises TokensUnavailableError and ImageProcessingError."""
    encoder = get_token_encoder(selection.source_in_use())
    with ThreadPoolExecutor(2, "explain") as pool:
        patches = list(pool.map(lambda image: _patches(encoder, image), images))
    preprocess = encoder.preprocess
    maps = explain.heat_maps(patches[0], patches[1])
    return [
        HeatMap(
            image.pk, heat.shape[0], heat.shape[1],
            explain.covered_area((image.width, image.height), preprocess.size, preprocess.crop, preprocess.squash),
            [round(float(value), 3) for value in heat.ravel()],
        )
        for image, heat in zip(images, maps, strict=True)
    ]  # fmt: skip


def _patches(encoder: TokenEncoder, image: ProductImage) -> Patches:
    return encoder.patches(encoder.preprocess(decode(image.file.path, draft_side=encoder.preprocess.draft_side)))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _area(values: Any) -> tuple[float, float, float, float]:
    left, top, width, height = (_number(value) for value in values)
    return left, top, width, height
