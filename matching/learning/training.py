"""Learn a head from the catalogue, compare it with the version in use on held-out products, and store it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from gpu.encoders import selection
from gpu.heads import Head, Part
from gpu.search_vectors import LEGACY_DIM
from gpu.vectors import CLIP, LEGACY, LEGACY_MODEL
from matching.learning import versions
from matching.learning.comparison import Comparison, Embed, Sample, Vectors, compare
from matching.learning.discriminant import MAX_COMPONENTS, SHRINKAGE, Scatter, fit
from matching.learning.views import stream
from products import model_versions
from products.models import Feature, Product
from products.queue.claims import encoders_are_complete

logger = logging.getLogger(__name__)

FOLDS = 5
# Fewer products with several views do not show what the views of one product have in common.
MIN_PRODUCTS_WITH_VIEWS = 20
# Beside an encoder, legacy features count a little more. 1.0 to 1.4 make no difference beyond the noise.
LEGACY_WEIGHT = 1.2

Progress = Callable[[int], object]


class TrainingError(Exception):
    """No head can be learned. The message says why and what is missing."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A new head, how it compares with the version in use, and the seconds that it took."""

    head: Head
    comparison: Comparison
    views: int
    products: int
    seconds: float
    data_hash: str

    def report(self, adopted: bool) -> dict[str, object]:
        """Return the figures for people and programs. Recalls are shares of the held-out views."""
        return {
            "version": self.head.version,
            "made_of": [part.model_name for part in self.head.parts],
            "views": self.views,
            "products": self.products,
            "recall@1": self.comparison.after["recall@1"],
            "recall@5": self.comparison.after["recall@5"],
            "compared_with": self.comparison.baseline,
            "before": self.comparison.before,
            "after": self.comparison.after,
            "gain": self.comparison.gain,
            "noise": self.comparison.noise,
            "wins": self.comparison.wins,
            "adopted": adopted,
            "seconds": round(self.seconds, 2),
            "data_hash": self.data_hash,
            "by_category": self.comparison.by_category,
        }


def parts_of(models: Sequence[str] | None) -> tuple[Part, ...]:
    """Return the parts of a head over these models; None takes legacy and all wanted encoders that cover the catalogue.

    An encoder may be named without its fingerprint or by its file. Raises TrainingError for a model of which nothing
    is stored.
    """
    if models is None:
        models = [*(encoder.name for encoder in selection.wanted() if _is_complete(encoder.name)), LEGACY]
    parts = []
    for name in dict.fromkeys(models):
        if name in (LEGACY, LEGACY_MODEL):
            parts.append(Part(LEGACY, LEGACY_MODEL, LEGACY_DIM, LEGACY_WEIGHT))
            continue
        encoder = selection.find(name)
        name = encoder.name if encoder is not None else name
        dim = Feature.objects.filter(kind=CLIP, model_name=name).values_list("dim", flat=True).first()
        if dim is None:
            raise TrainingError(f"No image has features of the model {name!r}. `manage.py list_models` lists models.")
        parts.append(Part(CLIP, name, dim, 1.0))
    return tuple(parts)


def _is_complete(encoder: str) -> bool:
    """Return whether all catalogue images have features of this encoder."""
    return Feature.objects.filter(kind=CLIP, model_name=encoder).exists() and encoders_are_complete(encoder)


def train(
    models: Sequence[str] | None = None,
    *,
    from_views: bool = True,
    from_decisions: bool = True,
    progress: Progress = lambda _: None,
) -> Trained:
    """Learn a head over these models and compare it on products that it did not see. Store nothing.

    The same data gives the same head. Uses one core, so that searches on this machine stay fast. Calls
    ``progress(products read)``. Raises TrainingError if there is too little to learn from.
    """
    with threadpool_limits(limits=1):
        return _train(parts_of(models), from_views, from_decisions, progress)


def _train(parts: tuple[Part, ...], from_views: bool, from_decisions: bool, progress: Progress) -> Trained:
    start = time.perf_counter()
    in_use = model_versions.in_use()
    # What the head in use has besides, so that both see the same images.
    names = {(part.kind, part.model_name) for part in parts}
    others_parts = in_use.parts if in_use is not None else ()
    read = (*parts, *(part for part in others_parts if (part.kind, part.model_name) not in names))
    dim = sum(part.dim for part in read)
    own = np.arange(sum(part.dim for part in parts))
    folds = [Scatter.empty(dim) for _ in range(FOLDS)]
    digest = hashlib.sha256(repr((parts, MAX_COMPONENTS, SHRINKAGE)).encode())
    sample = Sample(Product.objects.filter(is_historical=True).count())
    for views in stream(read, from_views=from_views, from_decisions=from_decisions):
        digest.update(views.products.tobytes() + views.vectors[:, own].tobytes())
        fold_of_view = views.products % FOLDS
        for fold, scatter in enumerate(folds):
            scatter.add(views.vectors[fold_of_view == fold], views.products[fold_of_view == fold])
        sample.add(views)
        progress(len(np.unique(views.products)))
    everything = _sum(folds, dim)
    if everything.products_with_views < MIN_PRODUCTS_WITH_VIEWS:
        raise TrainingError(
            f"Only {everything.products_with_views} catalogue products have two images or more. A head needs "
            f"{MIN_PRODUCTS_WITH_VIEWS}. Add images to products, or confirm matches: their images count too."
        )
    mean, projection = fit(_own(everything, own))
    head = Head(f"head-{digest.hexdigest()[:12]}", parts, mean, projection, 0.0)
    others = [everything.without(fold) for fold in folds]
    name, before = _baseline(read, len(parts), others, in_use)
    held_out = sample.views()
    ids = np.unique(held_out.products).tolist()
    categories = dict(Product.objects.filter(pk__in=ids).values_list("pk", "category"))
    after = [_held_out(parts, _own(scatter, own)) for scatter in others]
    unchanged = np.ones(len(own), np.float32)
    after = [partial(_of_columns, apply, own, unchanged) for apply in after]
    comparison = compare(held_out, after, before, name, categories)
    head = replace(head, score_floor=comparison.score_floor)
    logger.info(
        "Learned %s from %d views of %d products, whose hash is %s: gain %+.4f, noise %.4f",
        head.version, everything.views, everything.products, digest.hexdigest(), comparison.gain, comparison.noise,
    )  # fmt: skip
    return Trained(
        head, comparison, everything.views, everything.products, time.perf_counter() - start, digest.hexdigest()
    )


def train_and_store(
    models: Sequence[str] | None = None,
    *,
    from_views: bool = True,
    from_decisions: bool = True,
    adopt: bool = False,
    progress: Progress = lambda _: None,
) -> dict[str, object]:
    """Learn a head and store it in the shadow, with the vectors of all images. ``adopt`` switches to it if it wins.

    Returns the report. Raises TrainingError, and VersionError if the switch is refused.
    """
    trained = train(models, from_views=from_views, from_decisions=from_decisions, progress=progress)
    model_versions.add(trained.head, trained.report(adopted=False))
    model_versions.fill(trained.head)
    adopted = adopt and trained.comparison.wins
    if adopted:
        versions.switch(trained.head.version)
    return trained.report(adopted)


def _held_out(parts: Sequence[Part], scatter: Scatter) -> Embed:
    mean, projection = fit(scatter)
    return Head("held out", tuple(parts), mean, projection, 0.0).apply


def _own(scatter: Scatter, columns: npt.NDArray[np.int64]) -> Scatter:
    return scatter.of_columns(columns, np.ones(len(columns), np.float32))


def _baseline(
    parts: Sequence[Part], new: int, others: Sequence[Scatter], in_use: Head | None
) -> tuple[str, list[Embed]]:
    """Return what a new head must beat, and its vectors with each fold held out.

    That is the head in use, if it joins other models, learned again without the fold: the head itself has seen all
    products. Otherwise it is the encoder alone, or the legacy features. The first ``new`` parts are those of the new
    head.
    """
    ends = np.cumsum([part.dim for part in parts])
    columns = {
        (part.kind, part.model_name): np.arange(end - part.dim, end) for part, end in zip(parts, ends, strict=True)
    }
    weights = {(part.kind, part.model_name): part.weight for part in parts}
    used = [(part.kind, part.model_name) for part in in_use.parts] if in_use is not None else []
    if in_use is not None and set(used) != {(part.kind, part.model_name) for part in parts[:new]}:
        chosen = np.concatenate([columns[key] for key in used])
        factors = np.concatenate(
            [np.full(part.dim, part.weight / weights[part.kind, part.model_name], np.float32) for part in in_use.parts]
        )
        learned = [_held_out(in_use.parts, scatter.of_columns(chosen, factors)) for scatter in others]
        return in_use.version, [partial(_of_columns, apply, chosen, factors) for apply in learned]
    best = next((part for part in parts[:new] if part.kind == CLIP), parts[0])
    own, factor = columns[best.kind, best.model_name], np.full(best.dim, 1 / best.weight, np.float32)
    return best.model_name, [partial(_of_columns, lambda vectors: vectors, own, factor)] * len(others)


def _of_columns(
    embed: Embed, columns: npt.NDArray[np.int64], factors: npt.NDArray[np.float32], vectors: Vectors
) -> Vectors:
    return embed(vectors[:, columns] * factors)


def _sum(folds: Sequence[Scatter], dim: int) -> Scatter:
    empty = Scatter.empty(dim)
    return Scatter(
        sum(fold.views for fold in folds), sum(fold.products for fold in folds),
        sum(fold.products_with_views for fold in folds),
        sum((fold.sum for fold in folds), empty.sum), sum((fold.total for fold in folds), empty.total),
        sum((fold.between for fold in folds), empty.between),
    )  # fmt: skip
