"""Checks after any fault: each accepted image is embedded once, and no claim lasted too long."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from pathlib import Path

from gpu.pipeline.run import extract_query_features
from tests.helpers.files import files_in
from tests.helpers.processes import LEASE_SECONDS, Stack, wait_until

MAX_CLAIM_SECONDS = 2 * LEASE_SECONDS  # by then a claim must be finished or released


class ClaimWatch:
    """Watch the queue during the block and measure the longest claim on an image.

    Time without a running worker does not count, because then no claim can be released.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest_claim = 0.0

    def __enter__(self) -> ClaimWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        since: dict[str, float] = {}
        clock, looked = 0.0, time.monotonic()
        while not self._stopping.wait(0.05):
            rows = self._stack.rows("SELECT DISTINCT claim_token FROM product_images WHERE state = 'claimed'")
            before, looked = looked, time.monotonic()
            if self._stack.has_workers():
                clock += looked - before
            since = {str(token): since.get(str(token), clock) for (token,) in rows}
            self.longest_claim = max([self.longest_claim, *(clock - start for start in since.values())])


def wait_until_idle(stack: Stack, seconds: float = 90) -> float:
    """Wait until no image is pending or claimed. Return the seconds."""
    started = time.monotonic()
    unfinished = (
        "SELECT state, attempts, count(*) FROM product_images WHERE state IN ('pending', 'claimed') GROUP BY 1, 2"
    )
    wait_until(
        lambda: not stack.rows(unfinished),
        seconds,
        lambda: f"every image is finished: {stack.rows(unfinished)}\n{stack.log('worker')[-3000:]}",
    )
    return time.monotonic() - started


def assert_intact(stack: Stack, accepted: dict[int, int], *, failed: int = 0, uploads_died: bool = False) -> None:
    """Check that exactly the accepted products (id: number of images) exist and each image has its features.

    ``failed`` is the expected number of failed images. After ``uploads_died``, files of aborted uploads may be left.
    `verify --fix` removes them.
    """
    rows = stack.rows("SELECT product_id, count(*) FROM product_images GROUP BY product_id")
    assert dict(rows) == accepted
    assert stack.rows("SELECT count(*) FROM products") == [(len(accepted),)]
    states = Counter(dict(stack.rows("SELECT state, count(*) FROM product_images GROUP BY state")))
    assert states == Counter(ready=sum(accepted.values()) - failed, failed=failed)
    assert not stack.rows("SELECT id FROM product_images WHERE state = 'ready' AND (attempts > 0 OR error_code <> '')")
    _assert_features(stack)
    _assert_files(stack, leftovers=uploads_died)
    stored = Counter(_stored_by_workers(stack))
    assert {pk: times for pk, times in stored.items() if times > 1} == {}


def _assert_features(stack: Stack) -> None:
    """Check that each image has one row of features, computed from its own file, and that there are no other rows."""
    ready = stack.rows("SELECT count(*) FROM product_images WHERE state = 'ready'")[0][0]
    orphans = "SELECT count(*) FROM features f LEFT JOIN product_images i ON i.id = f.image_id WHERE i.id IS NULL"
    assert stack.rows(orphans) == [(0,)]
    features = stack.rows(
        "SELECT i.file_sha256, i.file, f.color_features, f.texture_features, f.product_id = i.product_id"
        " FROM features f JOIN product_images i ON i.id = f.image_id WHERE i.state = 'ready'"
    )
    assert len(features) == ready
    expected: dict[str, tuple[bytes, bytes]] = {}
    for sha256, file, color, texture, same_product in features:
        if sha256 not in expected:
            expected[sha256] = _features_of(stack.media / file)
        assert (bytes(color), bytes(texture)) == expected[sha256]
        assert same_product


def _features_of(file: Path) -> tuple[bytes, bytes]:
    legacy = extract_query_features(file).legacy
    assert legacy is not None
    return legacy.color.tobytes(), legacy.texture.tobytes()


def _assert_files(stack: Stack, *, leftovers: bool) -> None:
    """Check that each image has its file and thumbnail, and that there are no other files."""
    names = [name for (name,) in stack.rows("SELECT file FROM product_images")]
    expected_files = {*names, *(name.replace("pictures/", "thumbnails/", 1) for name in names)}
    found = set(files_in(stack.media))
    assert expected_files <= found
    assert leftovers or expected_files == found


def _stored_by_workers(stack: Stack) -> list[int]:
    """Return the ids of the images whose features were stored, once per line in a worker's log."""
    lines = re.findall(r"Embedded images \[([\d, ]+)\]", stack.log("worker"))
    return [int(number) for line in lines for number in line.split(",")]
