"""Let the policies decide the cases that wait, and pause those that their audit contradicts."""

from __future__ import annotations

import time

from django.db.models import F, Q

from matching import service
from matching.policy import audit, deciding
from matching.policy.evaluation import open_cases, thresholds
from matching.policy.models import Policy
from products.exporting import LARGE_COLUMNS

BATCH = 200


def apply(seconds: float | None = None) -> tuple[int, bool]:
    """Decide the open cases that the policies may decide, for at most so long.

    Return how many were decided, and whether more may be left. Matching does the same for each case that it searches.
    This is for cases that waited when a policy was switched on, or when past decisions began to carry it.
    """
    end = None if seconds is None else time.monotonic() + seconds
    decided = 0
    for policy in Policy.objects.filter(Q(confirms=True) | Q(calls_new=True), paused_at__isnull=True):
        if audit.pause_if_contradicted(policy):
            continue
        _kind, model, _head = service.version_in_use()
        at = thresholds(policy, model)
        likely = Q(_likely__gte=at.same_from, _likely__gt=F("_none")) if at.same_from is not None else Q(pk=None)
        unlikely = Q(_none__gte=at.new_from, _none__gt=F("_likely")) if at.new_from is not None else Q(pk=None)
        found = open_cases(policy).filter(likely | unlikely).defer(*LARGE_COLUMNS).order_by("pk")
        last = 0
        while batch := list(found.filter(pk__gt=last)[:BATCH]):
            for product in batch:
                decided += deciding.consider(product, model)
                if end is not None and time.monotonic() > end:
                    return decided, True
            last = batch[-1].pk
    return decided, False
