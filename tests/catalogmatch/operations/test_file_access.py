"""The data folder is private with any umask, and check and doctor report files that others can read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from catalogmatch.operations.permissions import check_permissions
from core.files import make_folder, write_file
from gpu.vectors import CLIP
from matching import index
from matching.index import main_file
from tests.conftest import use_clip
from tests.helpers.commands import run
from tests.helpers.installations import REPO, environment
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_images
from tests.helpers.vectors import MODEL, add_products, embeddings, random_vectors
from tests.helpers.web.import_page import ImportPage, zipped


def open_entries(folder: Path) -> dict[str, str]:
    """Return all modes in the folder except 0700 for folders and 0600 for files."""
    modes = {path: path.lstat().st_mode for path in (folder, *folder.rglob("*"))}
    assert len(modes) > 1
    return {
        str(path): oct(stat.S_IMODE(mode))
        for path, mode in modes.items()
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    }


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Set a umask that removes no permission."""
    before = os.umask(0)
    yield
    os.umask(before)


def manage(data: Path, *arguments: str) -> None:
    command = [sys.executable, str(REPO / "manage.py"), *arguments]
    env = environment(data, CATALOGMATCH_KEEP_ORIGINALS="1", DJANGO_DEBUG="1", CLIP_MODEL="none/none")
    done = subprocess.run(command, env=env, cwd=REPO, capture_output=True, text=True, timeout=120, umask=0)
    assert done.returncode == 0, done.stderr


def test_commands_write_private_files_with_an_open_umask(tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.jpg", "b.jpg")
    data, restored, copy = tmp_path / "parent" / "data", tmp_path / "restored", tmp_path / "backups" / "b"
    manage(data, "migrate", "--verbosity", "0")
    manage(data, "import_products", str(tmp_path / "in"))
    manage(data, "backup", str(copy))
    manage(restored, "restore", str(copy))
    manage(restored, "verify")
    assert len(list((data / "originals").glob("*/*"))) == 2
    for folder in (data, copy.parent, restored):
        assert open_entries(folder) == {}


def test_sqlite_wal_and_shm_files_are_as_private_as_the_database(tmp_path: Path) -> None:
    script = (
        "import django, os; django.setup(); from django.db import connection; from django.conf import settings;"
        "connection.cursor().execute('CREATE TABLE t (a)');"
        "paths = sorted(settings.DATA_DIR.glob('*sqlite3*'));"
        "print(*(oct(path.stat().st_mode)[-3:] + path.name[-4:] for path in paths))"
    )
    env = environment(tmp_path / "data", DJANGO_DEBUG="1")
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=REPO, capture_output=True, text=True, umask=0, check=True
    )
    assert done.stdout.split() == ["600ite3", "600-shm", "600-wal"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("open_umask")
def test_files_of_an_import_page_are_private(imports_root: Path, media: Path) -> None:
    table = "sku,image\nA,a.jpg\nB,missing.jpg\n"
    sent = ImportPage(browser_of("uploader"), {"t.csv": table, "p.zip": zipped({"a.jpg": jpeg(1)})})
    assert open_entries(imports_root) == {}
    assert any(imports_root.rglob("pictures.zip"))
    sent.confirm()
    assert open_entries(imports_root) == {}
    assert open_entries(media) == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("open_umask")
def test_index_files_are_private(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.INDEX_DIR = tmp_path / "index"
    monkeypatch.setattr("matching.index.maintenance.MIN_VECTORS_FOR_ANN", 10)
    add_products(embeddings(random_vectors(200)))
    index.rebuild()
    assert main_file.read_stamp(CLIP, MODEL).count == 200
    assert open_entries(tmp_path / "index") == {}


@pytest.mark.usefixtures("open_umask")
def test_exported_models_are_private(settings: Settings, tiny_clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    use_clip(settings, tiny_clip, tmp_path / "cache")
    assert run("export_onnx").code == 0
    assert open_entries(tmp_path / "cache") == {}


@pytest.fixture
def data(settings: Settings, tmp_path: Path) -> Path:
    """Create a private data folder with an image file."""
    settings.DATA_DIR = tmp_path / "data"
    settings.MEDIA_ROOT = tmp_path / "data" / "media"
    make_folder(tmp_path / "data" / "media" / "pictures")
    write_file(tmp_path / "data" / "media" / "pictures" / "a.jpg", b"x")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "mode", "by_check"),
    [
        ("", 0o750, True),
        ("", 0o755, True),
        ("media", 0o755, True),
        ("media", 0o750, False),
        ("media/pictures", 0o701, False),
        ("media/pictures/a.jpg", 0o644, False),
        ("media/pictures/a.jpg", 0o660, False),
    ],
)
@pytest.mark.django_db
def test_check_and_doctor_report_files_that_others_can_read(data: Path, name: str, mode: int, by_check: bool) -> None:
    assert list(check_permissions()) == []
    (data / name).chmod(mode)
    assert [warning.id for warning in check_permissions()] == ["catalogmatch.W001"] * by_check
    line = next(line for line in run("doctor").out.splitlines() if " access " in line)
    if (name, mode) == ("media", 0o750):
        assert line.startswith("OK")
        return
    assert line.startswith("WARN")
    assert f"can read {data / name}".rstrip("/") in line
    assert f"chmod -R go= {data}" in line
    subprocess.run(["chmod", "-R", "go=", str(data)], check=True)
    assert "OK" in next(line for line in run("doctor").out.splitlines() if " access " in line)


def test_manage_check_warns_about_files_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    env = environment(tmp_path / "data", DJANGO_DEBUG="1")
    command = [sys.executable, str(REPO / "manage.py"), "check"]
    done = subprocess.run(command, env=env, cwd=REPO, capture_output=True, text=True, check=True)
    assert "catalogmatch.W001" in done.stderr
    assert f"chmod -R go= {tmp_path / 'data'}" in done.stderr
