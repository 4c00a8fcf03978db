"""What the home page shows: what there is to do, and where, and what was done lately."""

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
from products.models import Product
from products.queue import claims

MAX_ARRIVALS = 6
DAYS = 30


@dataclass(frozen=True, slots=True)
class Activity:
    """What was done on each of the last days, for people: ``unit`` names what is counted."""

    key: str
    title: str
    unit: str
    plot: charts.BarPlot


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the home page. Unfold calls this, as the settings say."""
    return {**context, "title": _("Home"), **figures(request.user)}


def figures(user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    """The numbers of the home page, in a fixed number of queries, whatever the size of the catalogue."""
    waiting = queue.pending_by_band()
    return {
        "catalogue_count": Product.objects.filter(is_historical=True).count(),
        "new_count": Product.objects.filter(is_historical=False).count(),
        **queue_state(),
        "bands": [{"band": band, "count": count} for band, count in waiting.items()],
        "waiting_count": sum(waiting.values()),
        "today": queue.verdicts_today(user) if isinstance(user, AbstractBaseUser) else 0,
        "device": gpu_status(),
        "index_is_due": any(part.remedy for part in index.describe()),
        "activities": activities(),
        "arrivals": newest_arrivals(),
    }


def queue_state() -> dict[str, Any]:
    """The queue in numbers, the time that it needs in words (empty when nobody knows), and whether it is paused."""
    status = claims.queue_status()
    seconds = status["eta_seconds"]
    return {
        "queue": status,
        "remaining": duration_in_words(seconds) if seconds else "",
        "switch": claims.pause_switch(),
    }


def duration_in_words(seconds: float) -> str:
    """A time to wait, as exactly as it can be foreseen."""
    if seconds < 100:
        return ngettext("%d second", "%d seconds", round(seconds)) % round(seconds)
    now = timezone.now()
    return timesince(now - timedelta(seconds=seconds), now, depth=1)


def activities() -> list[Activity]:
    """Pictures embedded and verdicts given, day by day."""
    days = charts.last_days(DAYS, timezone.localdate())
    embedded, judged = claims.embedded_by_day(days[0]), queue.verdicts_by_day(days[0])
    return [
        Activity("embedded", _("Pictures embedded"), _("pictures"), charts.bar_plot(embedded, days)),
        Activity("judged", _("Verdicts given"), _("verdicts"), charts.bar_plot(judged, days)),
    ]


def newest_arrivals() -> list[Product]:
    """The newest new products, each with ``best``: its best match that nobody rejected, at most one."""
    alive = Match.objects.exclude(review_status=Match.Status.REJECTED).select_related("candidate")
    best = alive.prefetch_related("candidate__images").order_by("-similarity_score")[:1]
    products = Product.objects.filter(is_historical=False).order_by("-id")
    return list(products.prefetch_related("images", Prefetch("matches", best, to_attr="best"))[:MAX_ARRIVALS])
