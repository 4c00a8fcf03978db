"""Time limits that survive a system clock that is set forward or back."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from django.db.models import Q
from django.utils import timezone

_STARTED_AT, _STARTED = datetime.now(UTC), time.monotonic()


def steady_now() -> datetime:
    """Return a time that never jumps, for schedules. It starts as the time of day."""
    return _STARTED_AT + timedelta(seconds=time.monotonic() - _STARTED)


def is_over(moment: datetime, limit: timedelta) -> bool:
    """Return whether a moment is further away than ``limit``.

    A moment in the future comes from before the clock was set back. Without this, its limit would never end.
    """
    return abs(timezone.now() - moment) > limit


def over(field: str, limit: timedelta) -> Q:
    """Match rows whose moment in ``field`` is over, see ``is_over``."""
    now = timezone.now()
    return Q(**{f"{field}__lt": now - limit}) | Q(**{f"{field}__gt": now + limit})


def within(field: str, limit: timedelta) -> Q:
    """Match rows whose moment in ``field`` is not over."""
    now = timezone.now()
    return Q(**{f"{field}__gte": now - limit, f"{field}__lte": now + limit})
