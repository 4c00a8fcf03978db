"""Search by words and explanations with a real Redis and a real worker: the web process loads no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("installation"), CLIP_MODEL=str(tiny_clip)) as running:
        yield running


def loaded_libraries(stack: Stack) -> set[str]:
    """Return which heavy libraries the processes of the web server have mapped."""
    assert stack.web is not None
    server = Path(f"/proc/{stack.web.pid}/task/{stack.web.pid}/children").read_text().split()
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in [str(stack.web.pid), *server])
    return {name for name in ("libtorch", "onnxruntime") if name in maps}


def test_worker_encodes_words_and_explains_matches(stack: Stack) -> None:
    without_worker = stack.call("POST", "/api/search?wait=0.2", {"text": "a red mug"})
    assert (without_worker.status, without_worker.body["code"]) == (503, "features_pending")
    stack.start_worker()
    known = stack.upload([jpeg(1)], wait=60, is_historical="true").body["product_id"]
    found = stack.call("POST", "/api/search?wait=60", {"text": "a red mug"})
    assert (found.status, found.body["feature_type"]) == (200, "clip")
    assert [match["product_id"] for match in found.body["matches"]] == [known]
    new = stack.upload([jpeg(1, angle=3)], wait=60).body["product_id"]
    wait_until(lambda: stack.rows("SELECT 1 FROM matches WHERE product_id = ?", new) != [], 60, "it is matched")
    ((match_id, score),) = stack.rows("SELECT id, similarity_score FROM matches WHERE product_id = ?", new)
    explained = stack.call("GET", f"/api/matches/{match_id}/explanation?wait=60")
    assert explained.status == 200
    assert len(explained.body["heat_maps"]) == 2
    assert sum(part["points"] for part in explained.body["parts"]) == pytest.approx(score, abs=1e-3)
    assert loaded_libraries(stack) == set()
    stack.stop_workers()  # both are remembered
    again = stack.call("POST", "/api/search?wait=0.2", {"text": "a red mug"})
    assert again.body == found.body
    assert stack.call("GET", f"/api/matches/{match_id}/explanation?wait=0.2").body == explained.body
