"""Backups of a PostgreSQL catalogue, made by pg_dump and restored by pg_restore."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import psycopg
import pytest

from tests import postgres
from tests.helpers.installations import manage

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

SEED = """
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.queue.embed import embed_pending
from products.tasks import notifications_suspended
from tests.helpers.sample_images import jpeg
with notifications_suspended():
    for seed in range(20):
        add_product([Upload(jpeg(seed, (48, 48)))], sku=f"H-{seed}", is_historical=True)
        add_product([Upload(jpeg(seed, (48, 48), angle=9))], sku=f"Q-{seed}")
embed_pending(send_signal=False)
"""

MATCHES = """
from matching.service import find_matches
from products.models import Product
for product in Product.objects.filter(sku__startswith="Q-").order_by("sku"):
    found = find_matches(product.pk, threshold=0, limit=10).candidates
    print(product.sku, [(one.product.sku, round(one.score, 4)) for one in found])
"""

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def on() -> Iterator[Callable[[str, Path], Command]]:
    """Return ``on(database, data)``, which creates a database and returns a function that runs commands on it."""
    with postgres.running() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE other")
            [(folder,)] = connection.execute("SHOW data_directory").fetchall()
        # Use the server's own pg_dump: an older version cannot dump a newer server.
        [programs] = (Path(folder).parents[2] / "installation").glob("*/bin")

        def on(database: str, data: Path) -> Command:
            env = {"DATABASE_URL": f"{url.rsplit('/', 1)[0]}/{database}", "PATH": f"{programs}:{os.environ['PATH']}"}
            return lambda *arguments, **more: manage(data, *arguments, **env | more)

        yield on


def test_restored_backup_gives_the_same_matches(on: Callable[[str, Path], Command], tmp_path: Path) -> None:
    old, new = on("catalogmatch", tmp_path / "old"), on("other", tmp_path / "new")

    def output_of(finished: CompletedProcess[str]) -> str:
        assert finished.returncode == 0, finished.stderr[-3000:]
        return finished.stdout

    output_of(old("migrate", "--verbosity", "0"))
    output_of(old("shell", "--no-imports", "--command", SEED))
    expected = output_of(old("shell", "--no-imports", "--command", MATCHES))
    assert expected.count("Q-") == 20

    backup = str(tmp_path / "backup")
    failed = old("backup", backup, PATH="/nowhere")
    assert (failed.returncode, "pg_dump is not installed" in failed.stderr) == (1, True)
    assert not Path(backup).exists()

    output_of(old("backup", backup))
    output_of(new("restore", backup))
    assert output_of(new("verify")) == "No problems found.\n"
    assert output_of(new("shell", "--no-imports", "--command", MATCHES)) == expected
    assert "not empty" in new("restore", backup).stderr
