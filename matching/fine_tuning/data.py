"""What an encoder is trained on: views of products, and pairs that a user has told apart."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.db.models import Count, Q

from core.database.batches import iter_pk_batches
from gpu.training.errors import FineTuningError
from matching.learning.training import MIN_PRODUCTS_WITH_VIEWS
from matching.learning.views import MAX_VIEWS_PER_PRODUCT, confirmed_products
from matching.models import Decision, Match
from products.models import Product, ProductImage

_BATCH = 500

# The image's name below MEDIA_ROOT, and the hash of its upload.
View = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Views by product, in fixed order.

    views: of catalogue products, with those of new products confirmed to be the same; and of new products that were
    rejected. known: products that differ from all other known ones. rejected: pairs that a user has told apart.
    contradicting: images of two products. ambiguous: new products confirmed to be several. Both were left out.
    """

    views: dict[int, list[View]]
    categories: dict[int, str]
    known: set[int]
    rejected: list[tuple[int, int]]
    contradicting: int
    ambiguous: int

    @property
    def count(self) -> int:
        """Return the number of views."""
        return sum(map(len, self.views.values()))

    @property
    def with_views(self) -> list[int]:
        """Return the known products with two views or more."""
        return [product for product, own in self.views.items() if len(own) > 1 and product in self.known]

    def hash(self) -> str:
        """Return a hash of the images and of what is known about them."""
        told = {product: sorted(sha for _, sha in own) for product, own in self.views.items()}
        text = json.dumps([told, sorted(self.known), self.rejected], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"known": sorted(self.known)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> TrainingData:
        return cls(
            views={int(product): [(name, sha) for name, sha in own] for product, own in stored["views"].items()},
            categories={int(product): name for product, name in stored["categories"].items()},
            known=set(stored["known"]),
            rejected=[(first, second) for first, second in stored["rejected"]],
            contradicting=stored["contradicting"],
            ambiguous=stored["ambiguous"],
        )


def read() -> TrainingData:
    """Read the views and decisions. Raises FineTuningError if they are too few."""
    confirmed = confirmed_products()
    rejections = Match.objects.filter(review_status=Match.Status.REJECTED, candidate__is_historical=True)
    pairs = list(rejections.order_by("pk").values_list("product_id", "candidate_id"))
    catalogue = Product.objects.filter(is_historical=True)
    categories = dict(catalogue.order_by("pk").values_list("pk", "category"))
    shown = {product: product for product in categories} | confirmed
    rejected = sorted(
        {(candidate, shown.setdefault(product, product)) for product, candidate in pairs if candidate in categories}
    )
    rejected = [pair for pair in rejected if pair[0] != pair[1]]
    new = Decision.objects.filter(kind=Decision.Kind.NEW).values_list("product_id", flat=True)
    known = set(categories) | (set(new) & set(shown.values()))
    views, contradicting = _without_contradictions(_read_views(shown), known, rejected)
    ambiguous = (
        Product.objects.annotate(same=Count("matches", filter=Q(matches__review_status=Match.Status.CONFIRMED)))
        .filter(same__gt=1, is_historical=False).count()
    )  # fmt: skip
    data = TrainingData(
        views=views,
        categories={product: name for product, name in categories.items() if product in views},
        known=known & set(views),
        rejected=[pair for pair in rejected if pair[0] in views and pair[1] in views],
        contradicting=contradicting,
        ambiguous=ambiguous,
    )
    _require_enough(data, bool(pairs))
    return data


def paths(views: Iterable[View]) -> list[Path]:
    """Return the files of views."""
    return [Path(settings.MEDIA_ROOT) / name for name, _ in views]


def _read_views(shown: dict[int, int]) -> dict[int, list[View]]:
    """Return the views of each product that images show. Of more than MAX_VIEWS_PER_PRODUCT as many, evenly spread."""
    views: dict[int, list[View]] = defaultdict(list)
    images = ProductImage.objects.exclude(state=ProductImage.State.FAILED)
    for batch in iter_pk_batches(Product.objects.filter(images__isnull=False).distinct(), _BATCH):
        own = [product for product in batch if product in shown]
        for product, name, sha in (
            images.filter(product__in=own).order_by("pk").values_list("product_id", "file", "sha256")
        ):
            views[shown[product]].append((name, sha))
    return {product: _spread(views[product]) for product in sorted(views)}


def _spread(views: Sequence[View]) -> list[View]:
    places = np.linspace(0, len(views) - 1, min(len(views), MAX_VIEWS_PER_PRODUCT)).astype(int)
    return [views[place] for place in places]


def _without_contradictions(
    views: dict[int, list[View]], known: set[int], rejected: Sequence[tuple[int, int]]
) -> tuple[dict[int, list[View]], int]:
    """Leave out images of two products that are told apart, and doubles. Return the views, and how many contradict."""
    owners: dict[str, set[int]] = defaultdict(set)
    for product, own in views.items():
        for _, sha in own:
            owners[sha].add(product)
    apart = {frozenset(pair) for pair in rejected}
    contradicting: set[str] = set()
    unsure: set[str] = set()
    for sha, products in owners.items():
        if len(products) > 1:
            is_apart = len(products & known) > 1 or any(
                frozenset((a, b)) in apart for a in products for b in products - known
            )
            (contradicting if is_apart else unsure).add(sha)
    kept: dict[int, list[View]] = {}
    for product, own in views.items():
        once = {sha: (name, sha) for name, sha in reversed(own)}
        usable = [
            once[sha]
            for sha in dict.fromkeys(sha for _, sha in own)
            if sha not in contradicting and (product in known or sha not in unsure)
        ]
        if usable:
            kept[product] = usable
    return kept, len(contradicting)


def _require_enough(data: TrainingData, has_rejections: bool) -> None:
    count = len(data.with_views)
    if count >= MIN_PRODUCTS_WITH_VIEWS:
        return
    parts = [
        f"Only {count} catalogue products have two images or more. Fine-tuning needs {MIN_PRODUCTS_WITH_VIEWS}. Add "
        "images to products, or confirm matches: their images count too."
    ]
    if has_rejections:
        parts.append("Rejected matches alone do not say which images show the same product.")
    if data.contradicting:
        parts.append(f"{data.contradicting} images were left out because they belong to two products.")
    if data.ambiguous:
        parts.append(f"{data.ambiguous} new products were left out because they are confirmed to be several.")
    raise FineTuningError(" ".join(parts))
