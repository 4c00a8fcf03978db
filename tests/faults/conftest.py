"""Fixtures of the fault tests: a real installation for each test to break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.helpers.processes import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Run an installation with Redis and a web server on SQLite. The test starts the workers."""
    with Stack(tmp_path) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either_stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """Run the same installation on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        with Stack(tmp_path) as running:
            yield running
        return
    with postgres.running() as url, Stack(tmp_path, DATABASE_URL=url) as running:
        yield running
