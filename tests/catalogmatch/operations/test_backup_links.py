"""Restores of hostile backups: links and foreign files are rejected, and nothing is written outside."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from products.images.cleaning import Upload
from products.images.intake import add_product
from tests.helpers.files import files_in
from tests.helpers.installations import manage
from tests.helpers.sample_images import jpeg

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="restores into an installation on SQLite"),
]


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    add_product([Upload(jpeg(1))], sku="A")
    call_command("backup", str(tmp_path / "b"))
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "b"


def image_in(backup: Path) -> Path:
    return next((backup / "media" / "pictures").glob("*/*"))


def seal(backup: Path, text: str) -> None:
    """Write SHA256SUMS and adapt the manifest, as an attacker can."""
    (backup / "SHA256SUMS").write_text(text)
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["sha256sums"] = hashlib.sha256(text.encode()).hexdigest()
    (backup / "manifest.json").write_text(json.dumps(manifest))


def add_line(backup: Path, name: str) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    seal(backup, (backup / "SHA256SUMS").read_text() + f"{digest}  {name}\n")


def change_manifest(backup: Path, **values: object) -> None:
    manifest = json.loads((backup / "manifest.json").read_text()) | values
    (backup / "manifest.json").write_text(json.dumps(manifest))


def move_out(path: Path) -> Path:
    """Move a file or folder out of the backup and return where it is."""
    return path.rename(path.parents[len(path.parts) - 1 - path.parts.index("b")] / "moved")


def link_to(path: Path) -> None:
    path.symlink_to(move_out(path))


def hard_link_to(path: Path) -> None:
    os.link(path, path.parents[len(path.parts) - 1 - path.parts.index("b")] / "moved")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: link_to(image_in(b)), "symbolic link"),
        (lambda b: link_to(image_in(b).parent), "symbolic link"),
        (lambda b: link_to(b / "media"), "symbolic link"),
        (lambda b: link_to(b / "database.sqlite3"), "symbolic link"),
        (lambda b: link_to(b / "SHA256SUMS"), "symbolic link"),
        (lambda b: link_to(b / "manifest.json"), "symbolic link"),
        (lambda b: (b / "extra").symlink_to("/etc/passwd"), "symbolic link"),
        (lambda b: (b / "broken").symlink_to("nowhere"), "symbolic link"),
        (lambda b: hard_link_to(image_in(b)), "hard link to a file outside"),
        (lambda b: hard_link_to(b / "database.sqlite3"), "hard link to a file outside"),
        (lambda b: replace_by_pipe(image_in(b)), "pipe"),
        (lambda b: replace_by_pipe(b / "manifest.json"), "pipe"),
        (lambda b: add_line(b, "media/../../secret"), "no file of a backup"),
        (lambda b: add_line(b, str(b.parent / "secret")), "no file of a backup"),
        (lambda b: add_line(b, "../secret"), "no file of a backup"),
        (lambda b: add_line(b, "media//secret"), "no file of a backup"),
        (lambda b: add_line(b, "media/./secret"), "no file of a backup"),
        (lambda b: add_line(b, "manifest.json"), "no file of a backup"),
        (lambda b: add_line(b, "media/a\0b"), "cannot be read"),
        (lambda b: add_line(b, "media/pictures"), "cannot be read|is a folder"),
        (lambda b: seal(b, (b / "SHA256SUMS").read_text() * 2), "every file once"),
        (lambda b: seal(b, ""), "does not name the database"),
        (lambda b: seal(b, "nonsense\n"), "cannot be read"),
        (lambda b: change_manifest(b, migrations=[["../x"]]), "not a backup"),
        (lambda b: change_manifest(b, migrations="../x"), "not a backup"),
        (lambda b: change_manifest(b, counts=None), "not a backup"),
        (lambda b: change_manifest(b, counts={}), "not a backup"),
        (lambda b: change_manifest(b, database="../../sqlite"), "backup is of a"),
    ],
)
def test_backup_with_links_special_files_or_foreign_names_is_rejected(
    backup: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    call_command("restore", str(backup), "--check")
    spoil(backup)
    with pytest.raises(CommandError, match=reason) as caught:
        call_command("restore", str(backup), "--check")
    assert caught.value.returncode == 1


def test_rejected_backup_writes_nothing(backup: Path, tmp_path: Path) -> None:
    link_to(image_in(backup))
    restored = manage(tmp_path / "empty", "restore", str(backup))
    assert restored.returncode == 1
    assert "Links are not followed" in restored.stderr
    assert files_in(tmp_path / "empty" / "media") == []


def test_backup_folder_may_be_given_through_a_link(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(backup)
    restored = manage(tmp_path / "empty", "restore", str(tmp_path / "latest"))
    assert restored.returncode == 0, restored.stderr


def test_restore_writes_through_no_link_in_the_installation(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "media").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "empty" / "media" / "pictures").symlink_to(tmp_path / "elsewhere")
    restored = manage(tmp_path / "empty", "restore", str(backup))
    assert restored.returncode == 1
    assert "not empty" in restored.stderr
    assert files_in(tmp_path / "elsewhere") == []


def test_backup_is_synced_before_it_gets_its_name(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    rename = os.rename

    def record_rename(source: Path, target: Path) -> None:
        seen.append(f"rename {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "sync", lambda: seen.append("sync"))
    monkeypatch.setattr(os, "rename", record_rename)
    monkeypatch.setattr("core.files.sync_folder", lambda folder: seen.append(f"folder {folder.name}"))
    call_command("backup", str(tmp_path / "again"))
    assert seen[-3:] == ["sync", "rename again", f"folder {tmp_path.name}"]
