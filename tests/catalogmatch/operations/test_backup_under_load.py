"""Ten backups during uploads, embedding and deletions: each restores to an installation with the same matches."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.installations import manage, start

BACKUPS = 10
QUERIES = 100

SEED = """
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.queue.embed import embed_pending
from products.tasks import notifications_suspended
from tests.helpers.sample_images import jpeg
with notifications_suspended():
    for seed in range(60):
        add_product([Upload(jpeg(seed, (48, 48)))], sku=f"H-{seed}", is_historical=True)
    for seed in range(QUERIES):
        add_product([Upload(jpeg(seed, (48, 48), angle=9, light=0.9))], sku=f"Q-{seed}")
embed_pending(send_signal=False)
"""

# Two threads: each uploads a product (which is embedded at once, there is no broker) and deletes an older one.
CHURN = """
import itertools, threading
from products.images.cleaning import Upload
from products.images.intake import add_product
from tests.helpers.sample_images import jpeg
def churn(thread):
    products = []
    for number in itertools.count():
        seed = 1000 + 100_000 * thread + number
        products.append(add_product([Upload(jpeg(seed, (48, 48)))], sku=f"L-{seed}").product)
        if len(products) > 5:
            products.pop(0).delete()
threads = [threading.Thread(target=churn, args=(n,)) for n in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

TAKE = """
import time
from pathlib import Path
from django.core.management import call_command
from matching.index import changes
for number in range(BACKUPS):
    before = changes.latest_revision()
    while changes.latest_revision() == before:  # the load goes on between two backups
        time.sleep(0.01)
    call_command("backup", str(Path(FOLDER) / str(number)))
"""

MATCHES = """
import json
from matching.service import find_matches
from products.models import Product
matches = {}
for product in Product.objects.filter(sku__startswith="Q-").order_by("sku"):
    candidates = find_matches(product.pk, threshold=0, limit=10).candidates
    matches[product.sku] = [[candidate.product.sku, round(candidate.score, 4)] for candidate in candidates]
print(json.dumps(matches))
"""

RESTORE = """
import io
from django.core.management import call_command
call_command("restore", FOLDER, stdout=io.StringIO())
call_command("verify", stdout=io.StringIO())
"""


def run(data: Path, script: str, **names: object) -> str:
    """Run ``script`` in the installation in ``data`` with these names defined. Return its output."""
    done = manage(data, "shell", "--no-imports", "--command", defined(names) + script, CATALOGMATCH_API_RATE="1000/s")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def defined(names: dict[str, object]) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in names.items())


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_ten_backups_under_load_restore_to_the_same_matches(tmp_path: Path) -> None:
    live = tmp_path / "live"
    assert manage(live, "migrate", "--verbosity", "0").returncode == 0
    run(live, SEED, QUERIES=QUERIES)
    expected = json.loads(run(live, MATCHES))
    assert len(expected) == QUERIES
    assert all(len(found) == 10 for found in expected.values())

    load = start(live, "shell", "--no-imports", "--command", CHURN)
    try:
        run(live, TAKE, BACKUPS=BACKUPS, FOLDER=str(tmp_path / "backups"))
        assert load.poll() is None, "the load has to last as long as the backups"
    finally:
        os.killpg(load.pid, signal.SIGKILL)
        load.wait()

    def restored(number: int) -> dict[str, list[object]]:
        data = tmp_path / f"restored-{number}"
        folder = str(tmp_path / "backups" / str(number))
        matches: dict[str, list[object]] = json.loads(run(data, RESTORE + MATCHES, FOLDER=folder))
        return matches

    with ThreadPoolExecutor(2) as pool:
        for number, matches in enumerate(pool.map(restored, range(BACKUPS))):
            assert matches == expected, f"backup {number}"
    manifests = [json.loads((tmp_path / "backups" / str(n) / "manifest.json").read_text()) for n in range(BACKUPS)]
    assert len({manifest["index"]["revision"][0] for manifest in manifests}) == BACKUPS
