"""The views that a head learns from: images of catalogue products, and of new products confirmed to be the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from django.db.models import QuerySet

from gpu.heads import Part
from gpu.search_vectors import legacy_search_vectors
from gpu.vectors import COLOR_BINS, LEGACY
from matching.index.confirmed import shown_products
from matching.models import Match
from products.models import Feature, Product, ProductImage

_PRODUCTS_PER_BATCH = 250
# More views of one product teach nothing new, and would outweigh those of many others.
MAX_VIEWS_PER_PRODUCT = 200
_BLOBS = ("color_features", "shape_features", "texture_features")


@dataclass(frozen=True, slots=True)
class Views:
    """The views of some products: joined vectors (n, D) float32, and ids (n,) of the catalogue product they show."""

    vectors: npt.NDArray[np.float32]
    products: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]


def stream(parts: Sequence[Part], *, from_views: bool, from_decisions: bool) -> Iterator[Views]:
    """Yield the views of all catalogue products, all of one product together, by rising product id.

    Without ``from_views`` only products with a confirmed match count. Images without all parts are left out, and
    damaged features. Of a product with more than MAX_VIEWS_PER_PRODUCT images, as many are taken, evenly spread.
    """
    confirmed = confirmed_products() if from_decisions else {}
    by_candidate: dict[int, list[int]] = defaultdict(list)
    for product, candidate in confirmed.items():
        by_candidate[candidate].append(product)
    catalogue = Product.objects.filter(is_historical=True)
    if not from_views:
        catalogue = catalogue.filter(pk__in=_confirmed_by_people().values("candidate"))
    last = 0
    ids = catalogue.order_by("pk").values_list("pk", flat=True)
    while batch := list(ids.filter(pk__gt=last)[:_PRODUCTS_PER_BATCH]):
        last = batch[-1]
        shown = {product: product for product in batch}
        shown |= {product: candidate for candidate in batch for product in by_candidate[candidate]}
        views = _load(parts, shown)
        if len(views.products):
            yield views


def confirmed_products() -> dict[int, int]:
    """Return the catalogue product that the images of each confirmed new product show.

    See ``matching.index.confirmed`` for the rule. A catalogue product is a class of its own, also if it was decided to
    be the same as another one.
    """
    shown = shown_products()
    catalogue = set(Product.objects.filter(is_historical=True).values_list("pk", flat=True)) if shown else set()
    return {
        product: candidate
        for product, candidate in shown.items()
        if candidate in catalogue and product not in catalogue
    }


def _confirmed_by_people() -> QuerySet[Match]:
    """Return the confirmed matches without those of automatic decisions."""
    confirmed: QuerySet[Match] = Match.objects.filter(review_status=Match.Status.CONFIRMED)
    return confirmed.exclude(product__decision__automatic=True)


def _load(parts: Sequence[Part], shown: dict[int, int]) -> Views:
    """Return the views of these products. ``shown`` says which catalogue product each shows."""
    owner: dict[int, int] = {}
    by_part: list[dict[int, npt.NDArray[np.float32]]] = []
    chosen = _chosen_images(shown)
    for part in parts:
        rows = Feature.objects.filter(
            product__in=list(shown), kind=part.kind, model_name=part.model_name, dim=_stored_dim(part)
        )
        if chosen is not None:
            rows = rows.filter(image__in=chosen)
        stored = rows.order_by("image_id").only("checksum", *_BLOBS, "image_id", "product_id", "kind", "model_name")
        found = [row for row in stored if not row.is_damaged]
        owner.update((row.image_id, row.product_id) for row in found)
        vectors = _vectors(part, [tuple(bytes(getattr(row, name)) for name in _BLOBS) for row in found])
        by_part.append(dict(zip((row.image_id for row in found), vectors, strict=True)))
    complete = sorted(set.intersection(*(set(vectors) for vectors in by_part)))
    images = np.array(complete, np.int64)
    products = np.array([shown[owner[image]] for image in complete], np.int64)
    joined = np.array(
        [np.concatenate([vectors[image] for vectors in by_part]) for image in complete], np.float32
    ).reshape(len(complete), sum(part.dim for part in parts))
    usable = np.isfinite(joined).all(axis=1)
    return Views(joined[usable], products[usable], images[usable])


def _chosen_images(shown: dict[int, int]) -> list[int] | None:
    """Return which images of these products to use, or None for all."""
    images: dict[int, list[int]] = defaultdict(list)
    rows = ProductImage.objects.filter(product__in=list(shown)).order_by("pk").values_list("pk", "product_id")
    for image, product in rows:
        images[shown[product]].append(image)
    if all(len(own) <= MAX_VIEWS_PER_PRODUCT for own in images.values()):
        return None
    spread = (np.linspace(0, len(own) - 1, min(len(own), MAX_VIEWS_PER_PRODUCT)).astype(int) for own in images.values())
    return [own[place] for own, places in zip(images.values(), spread, strict=True) for place in places]


def _stored_dim(part: Part) -> int:
    return COLOR_BINS if part.kind == LEGACY else part.dim


def _vectors(part: Part, blobs: Sequence[tuple[bytes, ...]]) -> npt.NDArray[np.float32]:
    """Return the weighted search vectors (n, d) of stored features."""
    if not blobs:
        return np.empty((0, part.dim), np.float32)
    if part.kind != LEGACY:
        vectors = np.frombuffer(b"".join(blob[0] for blob in blobs), "<f4").reshape(len(blobs), -1)
    else:
        color, shape, texture = (b"".join(blob[column] for blob in blobs) for column in range(3))
        vectors = legacy_search_vectors(
            np.frombuffer(color, np.uint8).reshape(len(blobs), -1),
            np.frombuffer(shape, "<f4").reshape(len(blobs), -1),
            np.frombuffer(texture, np.uint8).reshape(len(blobs), -1),
        )
    return np.asarray(np.float32(part.weight) * vectors, np.float32)
