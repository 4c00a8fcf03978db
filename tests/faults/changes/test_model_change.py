"""Workers of the old and the new CLIP model run at the same time on one database."""

from __future__ import annotations

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_django import Settings

from benchmarks.random_clip import build
from gpu import clip
from gpu.encoders.selection import joined
from gpu.encoders.weights import model_id
from gpu.pipeline.run import extract_query_features
from gpu.vectors import LEGACY_MODEL
from tests.conftest import use_clip
from tests.faults.integrity import wait_until_idle
from tests.helpers.processes import Response, Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

UNMATCHED = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the old and the new model."""
    folder = tmp_path_factory.mktemp("models")
    return build(folder / "old", seed=1), build(folder / "new", seed=2)


def upload(stack: Stack, first: int, count: int, **fields: Any) -> list[int]:
    images = [[jpeg(2 * seed), jpeg(2 * seed + 1)] for seed in range(first, first + count)]
    return [stack.upload(pair, **fields).body["product_id"] for pair in images]


def embeddings(stack: Stack) -> Counter[int]:
    """Return how often each image was embedded."""
    lines = re.findall(r"Embedded images \[([\d, ]+)\]", stack.log("worker"))
    return Counter(int(number) for line in lines for number in line.split(","))


def assert_features_of_their_models(stack: Stack, settings: Settings, models: tuple[Path, Path], cache: Path) -> None:
    """Check that each stored CLIP vector is the one that the named model computes from the image's file."""
    for folder in models:
        use_clip(settings, folder, cache)
        name = model_id()
        rows = stack.rows(
            "SELECT i.file, f.color_features FROM features f JOIN product_images i ON i.id = f.image_id"
            " WHERE f.kind = 'clip' AND f.model_name = ?", name,
        )  # fmt: skip
        assert rows
        for file, blob in rows:
            expected = extract_query_features(stack.media / file).clip
            assert expected is not None
            assert np.dot(np.frombuffer(blob, "<f4"), expected.color) > 0.999
        clip.unload()


def test_change_of_model_with_workers_of_both_models_mixes_nothing_and_ends_complete(
    tmp_path: Path, models: tuple[Path, Path], settings: Settings
) -> None:
    old, new = models
    names = {}
    for folder in models:
        use_clip(settings, folder, tmp_path / "cache")
        names[folder] = model_id()
    with Stack(tmp_path, CLIP_MODEL=str(old)) as stack:
        old_worker = stack.start_worker()
        products = upload(stack, 0, 8, is_historical="true")
        wait_until_idle(stack)
        assert stack.rows("SELECT DISTINCT embedded_with FROM product_images") == [(names[old],)]
        stack.start_worker(CLIP_MODEL=str(new))
        assert stack.web is not None
        stack.stop(stack.web)
        stack.start_web(CLIP_MODEL=str(new))
        # With both workers: uploads and searches go on.
        with ThreadPoolExecutor(2) as pool:
            searches = [pool.submit(stack.match_image, jpeg(seed), 20) for seed in range(8)]
            products += upload(stack, 8, 8)
        wait_until_idle(stack)
        before = embeddings(stack)
        time.sleep(5)
        assert embeddings(stack) == before  # the workers do not undo each other's results without end
        doctor = stack.manage_result("doctor", CLIP_MODEL=str(new)).stdout
        both_names = joined(names.values())
        assert f"workers use different models: {', '.join(sorted([names[old], both_names]))}" in doctor
        stack.stop(old_worker)
        wait_until(
            lambda: stack.rows("SELECT DISTINCT embedded_with, state FROM product_images") == [(both_names, "ready")],
            90, "all images have features of both models",
        )  # fmt: skip
        assert stack.match_image(jpeg(0), 30).body["model_name"] == names[old]
        assert stack.manage_result("switch_model", names[new], CLIP_MODEL=str(new)).returncode == 0
        wait_until(lambda: stack.rows(UNMATCHED) == [(0,)], 60, "all are matched")
        after = [stack.match_image(jpeg(seed), 30) for seed in range(4)]
        assert {(each.status, each.body["model_name"]) for each in after} == {(200, names[new])}
        assert [best(each) for each in after] == [products[0], products[0], products[1], products[1]]
        for each in (search.result() for search in searches):
            assert each.status in (200, 503), each
            if each.status == 200:
                # The old model answers until the switch.
                assert each.body["model_name"] in (LEGACY_MODEL, names[old])
                assert best(each) in products
        mixed = "SELECT product_id FROM matches GROUP BY product_id HAVING count(DISTINCT model_name) > 1"
        assert stack.rows(mixed) == []
        both = stack.rows("SELECT image_id, count(*) FROM features WHERE model_name = ? GROUP BY 1", names[new])
        assert len(both) == 32
        assert_features_of_their_models(stack, settings, models, tmp_path / "cache")


def best(response: Response) -> int:
    return int(response.body["matches"][0]["product_id"])
