"""The statistics of SQLite's query planner are updated after migrations and bulk commands, and by schedule."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import numpy as np
import pytest
from celery import current_app
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from benchmarks import catalogue
from core.sqlite import statistics
from matching.models import Match
from matching.review import queue
from products import tasks
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.queue import claims
from tests.helpers.sample_images import jpeg

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL updates its statistics by itself"),
]


def planner_statistics() -> dict[str, str]:
    """Return the planner's statistics by index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT idx, stat FROM sqlite_stat1")
        return dict(cursor.fetchall())


def test_pending_matches_of_a_score_band_are_counted_by_index() -> None:
    vectors = np.random.default_rng(0).standard_normal((200, 16), dtype=np.float32)
    catalogue.fill_database(vectors, catalogue.zipf_categories(200), catalogue.Contents(arrivals=60, reviewers=8))
    statistics.analyze()
    [band] = [band for band in queue.BANDS if band.low == 90]
    counted = queue.ReviewFilter(band=band).pending().order_by().values("pk")
    assert "COVERING INDEX match_verdict_score" in counted.explain()
    assert planner_statistics()["match_verdict_score"].split()[0] == str(Match.objects.count())


def test_next_case_of_a_score_band_is_found_without_sorting() -> None:
    for band in (None, *queue.BANDS):
        plan = queue.ReviewFilter(band=band).pending(newest_first=True).values("product").explain()
        assert "COVERING INDEX match_verdict_product" in plan
        assert "TEMP B-TREE" not in plan


def test_home_counts_images_by_state_without_reading_them() -> None:
    with CaptureQueriesContext(connection) as captured:
        claims.queue_counts()
    [query] = captured.captured_queries
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        [step] = cursor.fetchall()
    assert step[-1] == "SCAN product_images USING COVERING INDEX image_embedded_with"


@pytest.mark.parametrize(
    "occasion",
    [
        tasks.analyze_database,
        lambda: call_command("migrate", verbosity=0),
        lambda: call_command("reindex", "--all", stdout=StringIO(), stderr=StringIO()),
    ],
    ids=["schedule", "migrate", "bulk command"],
)
def test_statistics_are_updated_after_large_changes(occasion: Callable[[], object]) -> None:
    statistics.analyze()
    add_product([Upload(jpeg(1))], sku="A-1", category="mugs")
    assert "product_category" not in planner_statistics()
    occasion()
    assert "product_category" in planner_statistics()


def test_schedule_contains_the_statistics_task() -> None:
    named = {entry["task"] for entry in current_app.conf.beat_schedule.values()}
    assert tasks.analyze_database.name in named <= set(current_app.tasks)
