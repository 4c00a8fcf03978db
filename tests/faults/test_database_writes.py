"""Failing writes and many concurrent writers: no image is lost, duplicated or stuck."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.files import files_in
from tests.helpers.installations import REPO, environment, manage
from tests.helpers.processes import Response, Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

WRITERS, WRITES = 8, 500


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("failing")
    with Stack(folder, FAULT_WRITES=str(folder / "nth")) as running:
        yield running


def upload_seed(stack: Stack, seed: int) -> tuple[int, Response]:
    return seed, stack.upload([jpeg(seed)], sku=f"W-{seed}", is_historical="true" if seed % 3 else "false")


@pytest.mark.redis
@pytest.mark.parametrize("nth", [2, 3, 7])
def test_failing_writes_lose_no_accepted_upload(installation: Stack, nth: int) -> None:
    stack, switch = installation, installation.folder / "nth"
    first = 1000 * nth
    expected = {f"W-{upload_seed(stack, seed)[0]}" for seed in range(first, first + 20)}
    to_delete = [product for (product,) in stack.rows("SELECT id FROM products ORDER BY id DESC LIMIT 10")]
    switch.write_text(str(nth))
    stack.start_worker(FAULT_SECONDS_PER_IMAGE="0.02")
    with ThreadPoolExecutor(4) as pool:
        uploads = dict(pool.map(lambda seed: upload_seed(stack, seed), range(first + 20, first + 80)))
        deleted = dict(
            zip(to_delete, pool.map(lambda pk: stack.call("DELETE", f"/api/products/{pk}"), to_delete), strict=True)
        )
    failures = "disk I/O error (a fault that a test caused"
    wait_until(lambda: stack.log("worker").count(failures) > 5, 60, "the worker meets the fault")
    switch.unlink()
    rejected = [response for response in uploads.values() if response.status != 201]
    rejected += [response for response in deleted.values() if response.status != 204]
    assert {(response.status, response.body["code"]) for response in rejected} == {(503, "database_unavailable")}
    assert stack.log("web").count(failures) >= len(rejected)
    accepted = {f"W-{seed}" for seed, response in uploads.items() if response.status == 201}
    gone = {pk for pk, response in deleted.items() if response.status == 204}
    unfinished = "SELECT count(*) FROM product_images WHERE state IN ('pending', 'claimed')"
    unmatched = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"
    wait_until(lambda: stack.rows(unfinished) == stack.rows(unmatched) == [(0,)], 30, "all is embedded and matched")
    stack.stop_workers()
    assert {pk for (pk,) in stack.rows("SELECT id FROM products")}.isdisjoint(gone)
    present = Counter(sku for (sku,) in stack.rows("SELECT sku FROM products WHERE sku LIKE ?", f"W-{nth}___"))
    assert present.total() == len(present) == len(expected | accepted) - len(gone)
    assert accepted <= present.keys() <= expected | accepted
    [(images,)] = stack.rows("SELECT count(*) FROM product_images")
    assert stack.rows("SELECT state, attempts, count(*) FROM product_images GROUP BY 1, 2") == [("ready", 0, images)]
    assert stack.rows("SELECT count(*), count(DISTINCT image_id) FROM features") == [(images, images)]
    assert len(files_in(stack.media)) == 2 * images
    assert stack.manage("verify") == "No problems found.\n"


def test_concurrent_writers_never_find_the_database_locked(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data, folder = tmp_path / "var", tmp_path / "pictures"
    folder.mkdir()
    for seed in range(60):
        (folder / f"imported-{seed}.jpg").write_bytes(jpeg(seed))
    assert manage(data, "migrate", "--verbosity", "0").returncode == 0
    busy = [sys.executable, "-m", "tests.faults.busy_writer"]
    commands = [[*busy, "add", f"writer-{number}", str(WRITES)] for number in range(WRITERS)]
    commands.append([*busy, "edit", "edited", "100"])
    commands.append([sys.executable, "manage.py", "import_products", str(folder)])
    running = [
        subprocess.Popen(command, env=environment(data), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command in commands
    ]
    outputs = [process.communicate(timeout=240) for process in running]
    assert [
        (process.returncode, err.decode()[-2000:])
        for process, (_, err) in zip(running, outputs, strict=True)
        if process.returncode
    ] == []
    seconds = np.concatenate([json.loads(out) for out, _ in outputs[:-1]])
    median, p99 = np.percentile(seconds, [50, 99])
    record_property("seconds", f"median {median:.3f}, p99 {p99:.3f}, longest {seconds.max():.3f}, of {len(seconds)}")
    counted = manage(data, "shell", "--no-imports", "--command", COUNT).stdout.split()
    assert counted == [str(WRITERS * WRITES // 2), "60", "99"]
    assert p99 <= 2.0


COUNT = """
from products.models import Product
print(Product.objects.filter(sku__startswith="writer-", name="changed").count())
print(Product.objects.filter(name__startswith="imported-").count())
print(Product.objects.get(sku="edited").name.removeprefix("edit "))
"""
