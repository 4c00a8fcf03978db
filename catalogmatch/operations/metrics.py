"""Metrics for Prometheus: requests of the web processes, and the catalogue at the moment of the scrape.

With several web processes PROMETHEUS_MULTIPROC_DIR must name a folder that they share. Without it each process
reports only its own requests. See docs/metrics-and-alerts.md.
"""

from __future__ import annotations

import hmac
import os
import shutil
import time
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from catalogmatch.operations import disk_usage
from gpu.models import EmbeddingWorker
from gpu.monitoring.status import images_per_second
from matching.index import main_file, maintenance
from matching.models import Decision, Match, Policy, SelfAudit
from matching.policy import audit
from matching.quality import self_audit
from matching.service import unmatched
from products.models import ProductImage
from products.queue import claims

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram
    from prometheus_client.core import Metric

State = ProductImage.State
# In seconds: from a cached page to an upload that waits for its features.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return all metrics in Prometheus's text format. Needs METRICS_TOKEN, and is a 404 if that is not set."""
    token = settings.METRICS_TOKEN
    if not token:
        raise Http404
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return HttpResponse("Send the bearer token.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    catalogue = CollectorRegistry()
    catalogue.register(CatalogueCollector())
    return HttpResponse(generate_latest(registry) + generate_latest(catalogue), content_type=CONTENT_TYPE_LATEST)


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count one request. Does nothing if METRICS_TOKEN is not set."""
    if settings.METRICS_TOKEN:
        requests, durations = _instruments()
        requests.labels(method, route, str(status)).inc()
        durations.labels(method, route).observe(seconds)


@cache
def _instruments() -> tuple[Counter, Histogram]:
    from prometheus_client import Counter, Histogram

    return (
        Counter("catalogmatch_requests", "Requests.", ["method", "route", "status"]),
        Histogram("catalogmatch_request_seconds", "Response time in seconds.", ["method", "route"], buckets=BUCKETS),
    )


class CatalogueCollector:
    """Metrics read from the database and the disk at the moment of the scrape."""

    def collect(self) -> Iterator[Metric]:
        waiting = ProductImage.objects.filter(state=State.PENDING).order_by("updated_at").values_list("updated_at")
        oldest = waiting.first()
        yield _labelled("pictures", "Images by state.", "state", claims.queue_counts())
        yield _gauge(
            "oldest_pending_seconds",
            "Age of the image that has waited longest.",
            (timezone.now() - oldest[0]).total_seconds() if oldest else 0,
        )
        yield _labelled("failed_pictures", "Failed images by error code.", "code", claims.failures_by_code())
        yield _gauge("queue_paused", "1 while the queue is paused.", int(claims.is_paused()))
        yield _gauge("live_workers", "Workers with a recent heartbeat.", EmbeddingWorker.objects.live().count())
        yield _gauge("images_per_second", "Rate of all live workers together.", images_per_second() or 0)
        yield _gauge("unmatched_products", "New products that are not matched yet.", unmatched().count())
        yield _labelled("matches", "Matches by verdict.", "verdict", _matches_by_verdict())
        yield from _index()
        yield from _decisions()
        yield _gauge("disk_free_bytes", "Free space in the data folder.", shutil.disk_usage(settings.DATA_DIR).free)
        yield _gauge(
            "disk_reserve_bytes", "Free space below which nothing more is stored.", settings.DISK_RESERVE_BYTES
        )
        yield _labelled("storage_bytes", "What each part takes.", "part", disk_usage.recent())
        quotas = {part: quota for part, quota in settings.QUOTA_BYTES.items() if quota}
        yield _labelled("storage_quota_bytes", "What a part may take.", "part", quotas)


def _index() -> Iterator[Metric]:
    """Yield the vectors of each kind and model, and the age, size and changes of its index file."""
    from prometheus_client.core import GaugeMetricFamily

    labels = ["kind", "model"]
    vectors = GaugeMetricFamily("catalogmatch_index_vectors", "Vectors in the search.", labels=labels)
    age = GaugeMetricFamily("catalogmatch_index_age_seconds", "Age of the index file.", labels=labels)
    size = GaugeMetricFamily("catalogmatch_index_bytes", "Size of the index file.", labels=labels)
    changed = GaugeMetricFamily("catalogmatch_index_changes", "Vectors changed since it was built.", labels=labels)
    for state in maintenance.states():
        pair = [state.kind, state.model]
        vectors.add_metric(pair, state.features)
        if state.stamp is not None:
            age.add_metric(pair, time.time() - state.stamp.built_at)
            size.add_metric(pair, 1e6 * main_file.megabytes(state.stamp))
            changed.add_metric(pair, state.changed)
    yield from (vectors, age, size, changed)


def _decisions() -> Iterator[Metric]:
    """Yield what policies decide and measure, and what the newest self-audit found."""
    from prometheus_client.core import GaugeMetricFamily

    policies = list(Policy.objects.filter(Q(confirms=True) | Q(calls_new=True)))
    paused = sum(policy.paused_at is not None for policy in policies)
    yield _gauge("policies", "Policies that are on, paused ones too.", len(policies))
    yield _gauge("policies_paused", "Policies that their audit has paused.", paused)
    automatic = Decision.objects.filter(automatic=True).count()
    yield _gauge("automatic_decisions", "Automatic decisions that stand.", automatic)
    checked = GaugeMetricFamily(
        "catalogmatch_policy_checked", "Audited cases that people decided.", labels=["category"]
    )
    right = GaugeMetricFamily("catalogmatch_policy_right", "Those that the policy had right.", labels=["category"])
    for policy in policies:
        found = audit.audit_of(policy)
        checked.add_metric([policy.category], found.checked)
        right.add_metric([policy.category], found.right)
    yield from (checked, right)
    newest = self_audit.latest() or SelfAudit(expected=0, found=0, false_alarms=0)
    is_worse = newest.pk is not None and bool(self_audit.problem_of(newest))
    yield _gauge("self_audit_expected", "Altered copies of the newest self-audit.", newest.expected)
    yield _gauge("self_audit_found", "Those that were found.", newest.found)
    yield _gauge("self_audit_false_alarms", "Left-out products called the same.", newest.false_alarms)
    yield _gauge("self_audit_worse", "1 if the newest self-audit is worse than usual.", int(is_worse))


def _matches_by_verdict() -> dict[str, int]:
    return {verdict: Match.objects.filter(review_status=verdict).count() for verdict in Match.Status.values}


def _gauge(name: str, text: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"catalogmatch_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"catalogmatch_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
