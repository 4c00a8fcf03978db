"""What the home page shows: what there is to do, and where."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Prefetch

from gpu.status import gpu_status
from matching import cases
from matching.models import Match
from products import queue
from products.models import Product

NEWEST = 6


def figures(user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    """The numbers of the home page, each from one query, whatever the size of the catalogue."""
    waiting = cases.waiting()
    return {
        "catalogue_count": Product.objects.filter(is_historical=True).count(),
        "new_count": Product.objects.filter(is_historical=False).count(),
        "queue": queue.status(),
        "bands": [{"band": band, "count": count} for band, count in waiting.items()],
        "waiting_count": sum(waiting.values()),
        "today": cases.verdicts_today(user) if isinstance(user, AbstractBaseUser) else 0,
        "device": gpu_status(),
        "arrivals": newest_arrivals(),
    }


def newest_arrivals() -> list[Product]:
    """The newest new products, each with ``best``: its best match that nobody rejected, at most one."""
    alive = Match.objects.exclude(review_status=Match.Status.REJECTED).select_related("candidate")
    best = alive.prefetch_related("candidate__images").order_by("-similarity_score")[:1]
    products = Product.objects.filter(is_historical=False).order_by("-id")
    return list(products.prefetch_related("images", Prefetch("matches", best, to_attr="best"))[:NEWEST])
