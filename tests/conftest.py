"""Fixtures of all tests: own folders for files, empty caches, and a small CLIP model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.cache import caches
from django.db import DEFAULT_DB_ALIAS
from pytest_django import Settings

from benchmarks.random_clip import build
from core import circuit_breaker
from gpu import clip
from products.models import triggers


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    """Give each test its own folder for images. It does not exist before the first image is stored."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"


@pytest.fixture(autouse=True)
def imports_root(settings: Settings, tmp_path: Path) -> Path:
    """Give each test its own folder for the files of imports."""
    settings.IMPORTS_ROOT = tmp_path / "imports"
    return tmp_path / "imports"


@pytest.fixture(autouse=True)
def _empty_caches() -> None:
    """Clear the caches, so that no test is throttled for the calls of another."""
    for cache in caches.all(initialized_only=True):
        cache.clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images that CATALOGMATCH_TEST_DATA names.

    Without it the test is skipped. In CI it fails, but not on GitHub, which does not have these images.
    """
    folder = os.environ.get("CATALOGMATCH_TEST_DATA", "")
    if folder and Path(folder).is_dir():
        return Path(folder)
    message = "CATALOGMATCH_TEST_DATA does not name a folder of real images"
    if os.environ.get("CI") and not os.environ.get("GITHUB_ACTIONS"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a small CLIP with random weights in the layout of the hub. No test may change its files."""
    return build(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def own_clip(tiny_clip: Path, tmp_path: Path) -> Path:
    """Copy the small CLIP to a folder that the test may damage."""
    return Path(shutil.copytree(tiny_clip, tmp_path / "clip"))


@pytest.fixture
def with_clip(tiny_clip: Path, settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Make CLIP available: CLIP_MODEL names the small model, and exports go to a folder of the test."""
    use_clip(settings, tiny_clip, tmp_path / "cache")
    yield tiny_clip
    clip.unload()


@pytest.fixture
def redis_comes_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the circuit breaker of Redis after the test."""
    yield
    monkeypatch.setattr(circuit_breaker, "RETRY_SECONDS", 0)
    with circuit_breaker.redis_call():
        pass


@pytest.fixture
def unconstrained_vectors(db: None) -> Iterator[None]:
    """Remove the triggers that reject invalid vectors, as in a database that was changed by hand."""
    triggers.drop_triggers(DEFAULT_DB_ALIAS)
    yield
    triggers.install_triggers(DEFAULT_DB_ALIAS)


def use_clip(settings: Settings, folder: Path | str, cache: Path, **config: object) -> None:
    """Set CLIP_MODEL to ``folder``, CLIP_CACHE_DIR to ``cache``, and further keys of CLIP_CONFIG."""
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": str(folder), "cache_dir": str(cache), **config}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measurements of the tests (``record_property``) at the end."""
    for report in terminalreporter.getreports("passed"):
        if report.user_properties:
            measured = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.split('::')[-1]}: {measured}")
