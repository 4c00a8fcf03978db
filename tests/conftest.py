"""What all tests share: a folder for pictures of their own, and counters that start at zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.cache import caches
from pytest_django import Settings


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    """Every test's own folder for pictures; empty, and not there before the first is stored."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    """No test is throttled for the calls of another."""
    for cache in caches.all(initialized_only=True):
        cache.clear()
