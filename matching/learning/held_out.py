"""Search with two versions in the catalogue's own images, and in those of confirmed matches.

A head has seen all products. So it is learned again for each fold of the products, without that fold, and only those
products are searched with it. Both versions get the same queries and the same images to search in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from gpu import heads
from gpu.encoders import selection
from gpu.heads import Head, Part
from gpu.vectors import CLIP, HEAD, LEGACY_MODEL, Kind
from matching.learning.discriminant import Scatter, fit
from matching.learning.training import FOLDS, Progress, TrainingError, parts_of
from matching.learning.views import Views, confirmed_products, stream
from matching.service import covers_catalogue
from matching.similarity import score_of
from products.model_versions import ENCODER_NAME, VersionError
from products.models import Feature, Product, ProductImage

MAX_PRODUCTS = 2000  # searched products and distractors; more would only narrow the intervals
MAX_VIEWS, MAX_QUERIES = 10, 4  # of one product
_BLOCK = 500  # queries compared at once

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class ComparisonError(Exception):
    """Two versions cannot be compared. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A version to compare. ``parts``: the models that its vectors are made of. ``floor``: see ``score_of``."""

    name: str
    kind: Kind
    parts: tuple[Part, ...]
    dim: int
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What one version found, one row a query.

    ``ranks`` start at 1. ``scores`` are those of the right product. ``found`` and ``right``: the image that came first,
    and the best one of the right product.
    """

    ranks: Ids
    scores: npt.NDArray[np.float64]
    found: Ids
    right: Ids


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Queries of one origin, the ids of their right products, and what both versions found.

    ``images``: ids of stored images. ``files``: the names of those that are not stored.
    """

    name: str
    images: Ids
    products: Ids
    gallery_products: int
    a: Outcomes
    b: Outcomes
    files: tuple[str, ...] = ()


def resolve(name: str) -> Compared:
    """Return the version of this name: a head, "encoder" for what answers without a head, or a model's name.

    Raises VersionError for any other name.
    """
    head = heads.load(name)
    if head is not None:
        return Compared(name, HEAD, head.parts, head.dim, head.score_floor)
    if name == ENCODER_NAME:
        current = selection.alone().name
        has_clip = Feature.objects.filter(kind=CLIP, model_name=current).exists()
        name = current if has_clip and covers_catalogue(current) else LEGACY_MODEL
    try:
        (part,) = parts_of([name])
    except TrainingError as error:
        raise VersionError(f"There is no version {name!r}. `manage.py list_models` lists them.") from error
    return Compared(part.model_name, part.kind, (part,), part.dim)


def search_both(a: Compared, b: Compared, progress: Progress = lambda _: None) -> list[QuerySet]:
    """Search with both versions. Return the sets "views" and "decisions", without empty ones.

    Uses one core. Calls ``progress(products read)``. Raises ComparisonError if no product can be searched, or if a head
    cannot be learned again.
    """
    with threadpool_limits(limits=1):
        return _search_both(a, b, progress)


def _search_both(a: Compared, b: Compared, progress: Progress) -> list[QuerySet]:
    union = _union(a, b)
    views, is_new, folds = _read(union, learned=HEAD in (a.kind, b.kind), progress=progress)
    gallery = np.flatnonzero(~is_new)
    sets = {"views": _view_queries(views, is_new), "decisions": _decision_queries(views, is_new)}
    if not any(map(len, sets.values())):
        raise ComparisonError(
            "No product can be searched: a comparison needs catalogue products with two images or more, or confirmed "
            f"matches, whose images have the vectors of both {a.name} and {b.name}."
        )
    found = []
    for name, rows in sets.items():
        if not len(rows):
            continue
        first, second = (_outcomes(version, union, folds, views, gallery, rows) for version in (a, b))
        in_gallery = len(np.unique(views.products[gallery]))
        found.append(QuerySet(name, views.images[rows], views.products[rows], in_gallery, first, second))
    return found


def _union(a: Compared, b: Compared) -> tuple[Part, ...]:
    """Return the parts of both, each once and with the weight 1. Versions weight them later."""
    parts = {(part.kind, part.model_name): part for part in (*a.parts, *b.parts)}
    return tuple(Part(part.kind, part.model_name, part.dim, 1.0) for part in parts.values())


def _read(
    union: Sequence[Part], *, learned: bool, progress: Progress
) -> tuple[Views, npt.NDArray[np.bool_], list[Scatter]]:
    """Return a sample of views sorted by product, which are of new products, and the sums of each fold."""
    dim = sum(part.dim for part in union)
    folds = [Scatter.empty(dim) for _ in range(FOLDS)]
    confirmed = confirmed_products()
    by_people = ProductImage.objects.exclude(product__decision__automatic=True)
    new_images = np.array(
        by_people.filter(product__is_historical=False, product__matches__review_status="confirmed")
        .order_by("pk").values_list("pk", flat=True).distinct(), np.int64,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    share = min(1.0, MAX_PRODUCTS / max(1, Product.objects.filter(is_historical=True).count()))
    decided = set(sorted(set(confirmed.values()))[:MAX_PRODUCTS])
    chosen: list[Views] = []
    for views in stream(union, from_views=True, from_decisions=True):
        if learned:
            fold_of_view = views.products % FOLDS
            for fold, scatter in enumerate(folds):
                scatter.add(views.vectors[fold_of_view == fold], views.products[fold_of_view == fold])
        rows = []
        ids = np.unique(views.products)
        for product in ids:
            if rng.random() < share or int(product) in decided:
                own = np.flatnonzero(views.products == product)
                rows.append(np.sort(rng.permutation(own)[:MAX_VIEWS]))
        if rows:
            taken = np.concatenate(rows)
            chosen.append(Views(views.vectors[taken], views.products[taken], views.images[taken]))
        progress(len(ids))
    if not chosen:
        return (
            Views(np.empty((0, dim), np.float32), np.empty(0, np.int64), np.empty(0, np.int64)),
            np.empty(0, bool),
            folds,
        )
    views = Views(
        *(np.concatenate(column) for column in zip(*((v.vectors, v.products, v.images) for v in chosen), strict=True))
    )
    return views, np.isin(views.images, new_images), folds


def _view_queries(views: Views, is_new: npt.NDArray[np.bool_]) -> Ids:
    """Return the rows of catalogue images that are searched: up to MAX_QUERIES of each product with two or more."""
    rows = np.flatnonzero(~is_new)
    _, starts, counts = np.unique(views.products[rows], return_index=True, return_counts=True)
    order = np.arange(len(rows)) - np.repeat(starts, counts)
    return rows[(order < MAX_QUERIES) & (np.repeat(counts, counts) > 1)]


def _decision_queries(views: Views, is_new: npt.NDArray[np.bool_]) -> Ids:
    """Return the rows of new products' images whose confirmed product has an image to be found."""
    return np.flatnonzero(is_new & np.isin(views.products, views.products[~is_new]))


def _outcomes(
    version: Compared, union: Sequence[Part], folds: Sequence[Scatter], views: Views, gallery: Ids, queries: Ids
) -> Outcomes:
    count = len(queries)
    dots = np.zeros(count)
    ranks, found, right = (np.zeros(count, np.int64) for _ in range(3))
    ids, starts, counts = np.unique(views.products[gallery], return_index=True, return_counts=True)
    fold_of_query = views.products[queries] % FOLDS
    for fold in np.unique(fold_of_query):
        embed = _embedding(version, union, folds, int(fold))
        searched = embed(views.vectors[gallery])
        own_rows = np.flatnonzero(fold_of_query == fold)
        for start in range(0, len(own_rows), _BLOCK):
            block = own_rows[start : start + _BLOCK]
            sims = embed(views.vectors[queries[block]]) @ searched.T
            sims[queries[block][:, None] == gallery[None, :]] = -np.inf  # an image does not find itself
            best = np.maximum.reduceat(sims, starts, axis=1)
            true = np.searchsorted(ids, views.products[queries[block]])
            own = best[np.arange(len(block)), true]
            ranks[block] = 1 + (best > own[:, None]).sum(axis=1)
            dots[block] = own
            found[block] = views.images[gallery[sims.argmax(axis=1)]]
            for row, product, line in zip(block, true, sims, strict=True):
                first = starts[product]
                right[row] = views.images[gallery[first + line[first : first + counts[product]].argmax()]]
    scores = np.array([score_of(float(dot), version.kind, version.floor) for dot in dots])
    return Outcomes(ranks, scores, found, right)


def _embedding(
    version: Compared, union: Sequence[Part], folds: Sequence[Scatter], fold: int
) -> Callable[[Floats], Floats]:
    """Return what turns joined vectors into a version's, without the products of a fold if it is learned."""
    ends = np.cumsum([part.dim for part in union])
    place = {
        (part.kind, part.model_name): np.arange(end - part.dim, end) for part, end in zip(union, ends, strict=True)
    }
    columns = np.concatenate([place[part.kind, part.model_name] for part in version.parts])
    if version.kind != HEAD:
        return lambda joined: joined[:, columns]
    factors = np.concatenate([np.full(part.dim, part.weight, np.float32) for part in version.parts])
    everything = _sum(folds)
    try:
        mean, projection = fit(everything.without(folds[fold]).of_columns(columns, factors))
    except ValueError as error:
        raise ComparisonError(f"{version.name} cannot be learned again without some products: {error}.") from error
    head = Head(version.name, version.parts, mean, projection, 0.0)
    return lambda joined: head.apply(joined[:, columns] * factors)


def _sum(folds: Sequence[Scatter]) -> Scatter:
    total = Scatter.empty(len(folds[0].sum))
    for fold in folds:
        total.views += fold.views
        total.products += fold.products
        total.products_with_views += fold.products_with_views
        total.sum += fold.sum
        total.total += fold.total
        total.between += fold.between
    return total
