"""After a power cut each accepted image and each row has its files."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from tests.faults.power_cut import PowerCut
from tests.helpers import sample_images
from tests.helpers.processes import Stack
from tests.helpers.tables import write_images

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

UPLOADS, CUTS = 40, 25


@pytest.fixture
def stack(tmp_path: Path):
    """Return a stopped installation that keeps originals, whose folder counts as synced."""
    with Stack(tmp_path, CATALOGMATCH_KEEP_ORIGINALS="1") as running:
        assert running.web is not None
        running.stop(running.web)
        yield running


def products_after(power: PowerCut, moment: int, folder: Path) -> set[int]:
    """Rebuild the disk after a power cut and check all image files. Return the ids of the products."""
    shutil.rmtree(folder, ignore_errors=True)
    power.rebuild(moment, folder)
    with closing(sqlite3.connect(folder / "catalogmatch.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        images = database.execute("SELECT file, sha256, file_sha256 FROM product_images").fetchall()
        products = {pk for (pk,) in database.execute("SELECT id FROM products")}
    for name, sha256, file_sha256 in images:
        assert hashlib.sha256((folder / "media" / name).read_bytes()).hexdigest() == file_sha256
        original = folder / "originals" / Path(name).parent.name / Path(name).stem
        assert hashlib.sha256(original.read_bytes()).hexdigest() == sha256
        thumbnail = (folder / "media" / name.replace("pictures/", "thumbnails/", 1)).read_bytes()
        Image.open(io.BytesIO(thumbnail)).load()
    return products


@pytest.mark.redis
def test_accepted_uploads_survive_a_power_cut_at_any_moment(stack: Stack, tmp_path: Path, record_property) -> None:
    power = PowerCut(stack.folder / "var", tmp_path / "power")
    stack.start_web(**power.env)

    def upload(seed: int) -> tuple[int, int]:
        response = stack.upload([sample_images.jpeg(3 * seed + number) for number in range(1 + seed % 3)])
        assert response.status == 201
        return power.moment(), response.body["product_id"]

    with ThreadPoolExecutor(4) as clients:
        accepted = list(clients.map(upload, range(UPLOADS)))
    assert stack.web is not None
    stack.stop(stack.web, signal.SIGKILL)
    moments = {*random.sample(range(power.moment() + 1), CUTS), *(moment for moment, _product in accepted)}
    for moment in moments:
        products = products_after(power, moment, tmp_path / "after")
        assert {product for at, product in accepted if at <= moment} <= products
    record_property("syncs", power.moment())
    record_property("cuts", len(moments))


def test_import_leaves_no_row_without_files_after_a_power_cut(stack: Stack, tmp_path: Path) -> None:
    write_images(tmp_path / "in", *(f"{number}.jpg" for number in range(40)))
    power = PowerCut(stack.folder / "var", tmp_path / "power")
    stack.manage("import_products", str(tmp_path / "in"), **power.env)
    for moment in random.sample(range(power.moment()), CUTS):
        products_after(power, moment, tmp_path / "after")
    assert len(products_after(power, power.moment(), tmp_path / "after")) == 40


@pytest.mark.parametrize(
    ("syncs", "left"),
    [
        ("", None),
        ("os.fsync(file)", None),  # the content, and no name for it
        ("os.fsync(folder)", b""),  # the name, and no content
        ("os.fsync(file); os.fsync(folder)", b"content"),
        ("os.fsync(file); os.fsync(folder); os.write(file, b' that is lost')", b"content"),
        ("os.fsync(file); os.fsync(folder); os.rename(ROOT + '/a', ROOT + '/b')", b"content"),
        ("os.fsync(file); os.rename(ROOT + '/a', ROOT + '/b'); os.fsync(folder)", None),
    ],
)
def test_recorder_drops_writes_that_were_not_synced(tmp_path: Path, syncs: str, left: bytes | None) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "before").write_bytes(b"there before")
    power = PowerCut(root, tmp_path / "power")
    script = (
        f"import os; ROOT = {str(root)!r}; folder = os.open(ROOT, os.O_RDONLY);"
        f"file = os.open(ROOT + '/a', os.O_CREAT | os.O_WRONLY); os.write(file, b'content'); {syncs}"
    )
    subprocess.run([sys.executable, "-c", script], env=os.environ | power.env, check=True)
    (tmp_path / "power" / "journal" / "events").touch()
    power.rebuild(power.moment(), tmp_path / "after")
    assert (tmp_path / "after" / "before").read_bytes() == b"there before"
    path = tmp_path / "after" / "a"
    assert (path.read_bytes() if path.exists() else None) == left
