"""The catalogue of the benchmarks is valid: the program itself could have made it."""

from __future__ import annotations

import numpy as np
import pytest
from django.contrib.auth.models import User

from benchmarks import catalogue
from catalogmatch.operations.verify import Verification, verify
from core.progress import progress_bar
from matching.models import Match
from products.models import Feature, Product, ProductImage
from tests.helpers.rows import browser_of

pytestmark = pytest.mark.django_db

CONTENTS = catalogue.Contents(arrivals=60, failed=3, pending=5, reviewers=8, complete=True)


@pytest.fixture(autouse=True)
def _written() -> None:
    """Write 200 products with 240 images, matches, verdicts and failures."""
    vectors = np.random.default_rng(0).standard_normal((240, 16), dtype=np.float32)
    catalogue.fill_database(vectors, catalogue.zipf_categories(200), CONTENTS)


def test_benchmark_catalogue_has_the_requested_rows() -> None:
    assert Product.objects.filter(is_historical=False).count() == 60
    states = list(ProductImage.objects.values_list("state", flat=True))
    assert {state: states.count(state) for state in set(states)} == {"ready": 232, "failed": 3, "pending": 5}
    assert Feature.objects.filter(kind="clip").count() == Feature.objects.filter(kind="legacy").count() == 232
    assert Match.objects.count() == 600
    assert set(Match.objects.values_list("review_status", flat=True)) == {"pending", "confirmed", "rejected"}
    assert Match.history.count() == Match.objects.exclude(review_status="pending").count()


def test_benchmark_catalogue_passes_verify() -> None:
    assert [problem.text for problem in verify(Verification(fix=False, bar=progress_bar))] == []


def test_benchmark_catalogue_can_be_used_like_a_real_one() -> None:
    boss = User.objects.create_superuser("boss")
    assert Product.objects.create(name="one more").pk > 200
    assert browser_of(boss).get("/admin/matching/match/case/", follow=True).context["product"].matches.count() == 10
