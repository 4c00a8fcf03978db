"""Ask the catalogue about itself: questions whose answers are known before any decision.

A view of a product is searched among the other views. Then its product is left out, so that the right answer is "none".
A head is learned again without the views, or without the products, that are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from django.db.models import Count

from gpu.heads import Head, Part
from gpu.search_vectors import LEGACY_DIM
from gpu.vectors import CLIP, LEGACY
from matching.answers.choice import CONSIDERED, Doubles, Questions, image_terms, padded
from matching.learning.discriminant import Scatter, fit
from matching.learning.views import Views, stream
from matching.similarity import score_of
from products.models import Feature, Product

FOLDS = 5
MAX_PRODUCTS, MAX_VIEWS_OF_ONE, MAX_QUESTIONS = 3_000, 10, 3_000
# With fewer products with several views, their questions say little about the next product.
MIN_PRODUCTS = 20
# How many questions are about products that the catalogue lacks, before decisions tell.
SHARE_NEW = 0.3

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Vectors], Vectors]


class CalibrationError(Exception):
    """No probabilities can be learned. The message says why and what is missing."""


def parts_of(kind: str, model: str, head: Head | None) -> Sequence[Part]:
    """Return what the vectors of a version are made of. Raises CalibrationError if no image has any."""
    if head is not None:
        return head.parts
    if kind == LEGACY:
        return (Part(LEGACY, model, LEGACY_DIM, 1.0),)
    dim = Feature.objects.filter(kind=CLIP, model_name=model).values_list("dim", flat=True).first()
    if dim is None:
        raise CalibrationError(f"No image has features of the model {model!r}.")
    return (Part(CLIP, model, dim, 1.0),)


def ask_catalogue(kind: str, model: str, head: Head | None) -> Questions:
    """Return questions about a version, half of them with the product left out. The same catalogue gives the same.

    Raises CalibrationError if too few products have several images.
    """
    several = Product.objects.filter(is_historical=True).annotate(views=Count("images")).filter(views__gt=1)
    if len(several.order_by().values_list("pk")[:MIN_PRODUCTS]) < MIN_PRODUCTS:  # before all features are read
        raise _too_few_products(several.count())
    rng = np.random.default_rng(0)
    return ask_views(_sample(parts_of(kind, model, head), rng), kind, head, rng)


def ask_views(views: Views, kind: str, head: Head | None, rng: np.random.Generator) -> Questions:
    """Return questions about these views. Raises CalibrationError if too few products have several."""
    products, counts = np.unique(views.products, return_counts=True)
    with_views = int((counts > 1).sum())
    if with_views < MIN_PRODUCTS:
        raise _too_few_products(with_views)
    score = np.vectorize(lambda dot: score_of(dot, kind, head.score_floor if head else None) / 100, otypes=[float])
    fold_of_view = rng.integers(0, FOLDS, len(views.products))
    fold_of_product = dict(zip(products.tolist(), rng.permutation(len(products)) % FOLDS, strict=True))
    fold_of_owner = np.array([fold_of_product[product] for product in views.products.tolist()])
    known, unknown = [], []
    for fold in range(FOLDS):
        asked = fold_of_view == fold
        asked &= np.isin(views.products, views.products[~asked])  # another view of the product must be left
        known.append(_ask(views, asked, fold_of_view != fold, head, score))
        asked = fold_of_owner == fold
        unknown.append(_ask(views, asked, ~asked, head, score))
    return Questions.joined(
        [
            _weighted(Questions.joined(known), 1 - SHARE_NEW, rng),
            _weighted(Questions.joined(unknown), SHARE_NEW, rng),
        ]
    )


def _too_few_products(count: int) -> CalibrationError:
    return CalibrationError(
        f"Only {count} catalogue products have two images or more. Probabilities need {MIN_PRODUCTS}. Add images to "
        "products."
    )


def _sample(parts: Sequence[Part], rng: np.random.Generator) -> Views:
    """Return some views of some products, those of one product together."""
    share = min(1.0, MAX_PRODUCTS / max(1, Product.objects.filter(is_historical=True).count()))
    kept = []
    for views in stream(parts, from_views=True, from_decisions=False):
        rows = [
            rng.permutation(np.flatnonzero(views.products == product))[:MAX_VIEWS_OF_ONE]
            for product in np.unique(views.products)
            if rng.random() < share
        ]
        if rows:
            chosen = np.concatenate(rows)
            kept.append(Views(views.vectors[chosen], views.products[chosen], views.images[chosen]))
    if not kept:
        raise CalibrationError("The catalogue has no image with features of this version yet.")
    return Views(*(np.concatenate([getattr(one, name) for one in kept]) for name in ("vectors", "products", "images")))


def _ask(
    views: Views,
    asked: npt.NDArray[np.bool_],
    gallery: npt.NDArray[np.bool_],
    head: Head | None,
    score: Callable[[Doubles], Doubles],
) -> Questions:
    embed = _relearned(views, gallery, head)
    vectors, owners = embed(views.vectors[gallery]), views.products[gallery]
    ids, starts = np.unique(owners, return_index=True)
    rows = np.flatnonzero(asked)
    similarities, right = [], []
    for start in range(0, len(rows), 500):
        block = rows[start : start + 500]
        best = np.maximum.reduceat(embed(views.vectors[block]) @ vectors.T, starts, axis=1).astype(np.float64)
        places = np.argsort(-best, axis=1, kind="stable")[:, :CONSIDERED]
        is_right = ids[places] == views.products[block][:, None]
        similarities.append(score(np.take_along_axis(best, places, axis=1)))
        right.append(np.where(is_right.any(axis=1), is_right.argmax(axis=1), CONSIDERED))
    terms = image_terms(np.concatenate(similarities))
    terms, facts = padded(terms, np.zeros(terms.shape[:2]))
    return Questions(terms, facts, np.concatenate(right), np.ones(len(rows)), views.products[rows])


def _relearned(views: Views, gallery: npt.NDArray[np.bool_], head: Head | None) -> Embed:
    if head is None:
        return lambda vectors: vectors
    scatter = Scatter.empty(views.vectors.shape[1])
    scatter.add(views.vectors[gallery], views.products[gallery])
    mean, projection = fit(scatter)
    return Head("held out", tuple(head.parts), mean, projection, head.score_floor).apply


def _weighted(questions: Questions, share: float, rng: np.random.Generator) -> Questions:
    """Return at most MAX_QUESTIONS of these, which together count as ``share`` of all questions."""
    chosen = questions.chosen(np.sort(rng.permutation(len(questions))[:MAX_QUESTIONS]))
    return Questions(
        chosen.terms, chosen.facts, chosen.right, np.full(len(chosen), share / len(chosen)), chosen.products
    )
