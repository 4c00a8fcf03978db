"""The published functions read from the database which encoder is in use."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _database(db: None) -> None:
    """Let all tests of this package use the database."""
