"""The context of the home page: what to do next, and what was done on the last days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Prefetch
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from catalogmatch.admin import charts
from gpu.monitoring.status import gpu_status
from matching import index
from matching.models import Match
from matching.review import queue
from matching.review.first_steps import first_steps
from products.exporting import LARGE_COLUMNS
from products.models import Product
from products.queue import claims

MAX_NEWEST = 6
CHART_DAYS = 30


@dataclass(frozen=True, slots=True)
class Activity:
    """A number for each of the last days. ``unit`` names what is counted."""

    key: str
    title: str
    unit: str
    chart: charts.BarChart


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the home page. The settings name this function for unfold."""
    shown = figures(request.user)
    return {**context, "title": _("Home"), "steps": first_steps(request, shown), **shown}


def figures(user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    """Return the numbers of the page. Their queries do not grow in number with the catalogue."""
    pending = queue.open_by_band()
    return {
        "catalogue_count": Product.objects.filter(is_historical=True).count(),
        "new_count": Product.objects.filter(is_historical=False).count(),
        **queue_state(),
        "bands": [{"band": band, "count": count} for band, count in pending.items()],
        "waiting_count": sum(pending.values()),
        "today": queue.decisions_today(user) if isinstance(user, AbstractBaseUser) else 0,
        "device": gpu_status(),
        "index_is_due": any(part.remedy for part in index.describe()),
        "activities": activities(),
        "frame": charts.FRAME,
        "newest_products": newest_products(),
    }


def queue_state() -> dict[str, Any]:
    """Return the queue's counts, its remaining time in words ("" if unknown), and whether it is paused."""
    status = claims.queue_status()
    seconds = status["eta_seconds"]
    return {
        "queue": status,
        "remaining": duration_in_words(seconds) if seconds else "",
        "pause_switch": claims.pause_switch(),
    }


def duration_in_words(seconds: float) -> str:
    """Return a remaining time in words, rounded to one unit."""
    if seconds < 100:
        return ngettext("%d second", "%d seconds", round(seconds)) % round(seconds)
    now = timezone.now()
    return timesince(now - timedelta(seconds=seconds), now, depth=1)


def activities() -> list[Activity]:
    """Return the images embedded and the cases decided on each of the last days."""
    days = charts.last_days(CHART_DAYS, timezone.localdate())
    embedded, decided = claims.embedded_by_day(days[0]), queue.decisions_by_day(days[0])
    return [
        Activity("embedded", _("Images embedded"), _("images"), charts.bar_chart(embedded, days)),
        Activity("judged", _("Cases decided"), _("decisions"), charts.bar_chart(decided, days)),
    ]


def newest_products() -> list[Product]:
    """Return the newest new products. ``best`` of each has its best match that is not rejected, if any."""
    open_matches = Match.objects.exclude(review_status=Match.Status.REJECTED).select_related("candidate")
    shown = open_matches.defer(*(f"candidate__{column}" for column in LARGE_COLUMNS))
    best = shown.prefetch_related("candidate__images").order_by("-similarity_score")[:1]
    products = Product.objects.filter(is_historical=False).order_by("-id").defer(*LARGE_COLUMNS)
    return list(products.prefetch_related("images", Prefetch("matches", best, to_attr="best"))[:MAX_NEWEST])
