"""Switch the model and roll back during a load of searches, with two web processes and a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.model_switch import measure

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]


def test_no_search_fails_or_mixes_versions_during_a_switch_and_a_roll_back(tmp_path: Path, record_property) -> None:
    figures = measure(tmp_path, n=60, seconds=6, clients=3, learning=False)
    record_property("figures", figures)
    assert (figures["errors"], figures["mixed"]) == (0, 0)
    assert figures["stale_s"] <= 2
    assert 0 < figures["by_head"] < figures["answers"]
