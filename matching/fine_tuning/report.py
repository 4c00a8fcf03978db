"""What a training brought: recall on held-out products from the frozen encoder through a head to the trained one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.heads import Head
from matching.fine_tuning.batches import HeldOut, Vectors
from matching.fine_tuning.data import TrainingData, View
from matching.learning.discriminant import Scatter, fit
from matching.learning.intervals import paired_bootstrap, wilson

# What a head is learned from for the report.
HEAD_PRODUCTS, HEAD_VIEWS = 1000, 6
CUTOFFS = (1, 5)
# Fewer products give no interval of a category's gain.
MIN_PRODUCTS = 5
# The stages of transfer, and what the report is compared by.
STAGES = ("frozen", "with head", "fine-tuned", "fine-tuned with head")

# A value with the ends of its interval. A gain over few products has none.
Estimate = dict[str, float | None]
Ranks = npt.NDArray[np.int64]


def head_views(data: TrainingData, training: Sequence[int]) -> tuple[list[View], npt.NDArray[np.int64]]:
    """Return the training views that the heads of a report learn from, and their products."""
    chosen = [product for product in training if product in data.known][:HEAD_PRODUCTS]
    views = [(view, product) for product in chosen for view in data.views[product][:HEAD_VIEWS]]
    return [view for view, _ in views], np.array([product for _, product in views], np.int64)


def ranks_of(held_out: HeldOut, vectors: Vectors, head_vectors: Vectors, head_products: Ranks) -> tuple[Ranks, Ranks]:
    """Return the ranks that an encoder reaches alone, and with a head that learned from the training products."""
    usable = head_vectors.any(axis=1)
    scatter = Scatter.empty(vectors.shape[1])
    scatter.add(head_vectors[usable], head_products[usable])
    mean, projection = fit(scatter)
    head = Head("of the report", (), mean, projection, 0.0)
    return held_out.ranks(vectors), held_out.ranks(head.apply(vectors))


def transfer(held_out: HeldOut, ranks: dict[str, Ranks], categories: dict[int, str]) -> dict[str, Any]:
    """Return the recalls of each stage, the gain of the training, and both by category, with intervals at 95 %."""
    products = held_out.of_queries
    everything = np.ones(len(products), np.bool_)
    by_category = {}
    for category in sorted({categories.get(int(product), "") for product in products}):
        own = np.array([categories.get(int(product), "") == category for product in products])
        by_category[category or "none"] = _figures(products, ranks, own)
    total = _figures(products, ranks, everything)
    low, high = (total["gain"]["recall@1"][end] for end in ("low", "high"))
    better = "" if low is None else "after" if low > 0 else "before" if high < 0 else ""
    return {**total, "better": better, "by_category": by_category}


def _figures(products: Ranks, ranks: dict[str, Ranks], own: npt.NDArray[np.bool_]) -> dict[str, Any]:
    def of_stage(stage: str) -> dict[str, Estimate]:
        hits = {f"recall@{k}": ranks[stage][own] < k for k in CUTOFFS}
        return {name: _estimate(float(hit.mean()), wilson(int(hit.sum()), len(hit))) for name, hit in hits.items()}

    def gain(k: int) -> Estimate:
        gained = (ranks[STAGES[2]][own] < k).astype(np.float64) - (ranks[STAGES[0]][own] < k)
        enough = len(np.unique(products[own])) >= MIN_PRODUCTS
        return _estimate(float(gained.mean()), paired_bootstrap(gained, products[own]) if enough else None)

    return {
        "products": len(np.unique(products[own])),
        "queries": int(own.sum()),
        "recall": {stage: of_stage(stage) for stage in STAGES},
        "gain": {f"recall@{k}": gain(k) for k in CUTOFFS},
    }


def _estimate(value: float, interval: tuple[float, float] | None) -> Estimate:
    if interval is None:
        return {"value": round(value, 4), "low": None, "high": None}
    low, high = interval
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


def lines(report: dict[str, Any]) -> list[str]:
    """Return the report as text for people."""
    out = [
        f"{report['queries']:,} images of {report['held_out_products']} products that were not trained on, searched "
        f"among {report['gallery_products']:,} products:"
    ]
    out += [
        f"{stage:21} recall@1 {_shown(found['recall@1'])}  recall@5 {_shown(found['recall@5'])}"
        for stage, found in report["recall"].items()
    ]
    gain = report["gain"]["recall@1"]
    out.append(f"gain of the training: recall@1 {_shown(gain, sign='+')}")
    out.append("recall@1 by category: frozen, with head, fine-tuned, fine-tuned with head")
    for category, found in report["by_category"].items():
        figures = ", ".join(f"{found['recall'][stage]['recall@1']['value']:.3f}" for stage in STAGES)
        own = found["gain"]["recall@1"]
        out.append(
            f"  {category}: {figures}; gain {_shown(own, sign='+')} ({found['products']} products, "
            f"{found['queries']} images)"
        )
    return out


def _shown(estimate: Estimate, sign: str = "") -> str:
    shown = [format(end, f"{sign}.3f") for end in estimate.values() if end is not None]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if len(shown) > 1 else shown[0]
