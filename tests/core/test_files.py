"""Atomic, private and synced writes, and reading without following links."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import files
from core.files import UnsafeFileError
from tests.helpers.files import files_in


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    files.write_files({tmp_path / "a" / "b" / "1": b"one", tmp_path / "a" / "2": b"two"})
    with files.replacing(tmp_path / "a" / "3") as file:
        file.write(b"three")
    assert [mode(tmp_path / name) for name in ("a", "a/b")] == [0o700, 0o700]
    assert [mode(tmp_path / "a" / name) for name in ("b/1", "2", "3")] == [0o600] * 3
    assert (tmp_path / "a" / "3").read_bytes() == b"three"


def test_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_file(path, b"before")
    stopped = files.replacing(path)
    stopped.__enter__().write(b"half")
    assert not stopped.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert path.read_bytes() == b"before"
    assert files_in(tmp_path) == ["file"]


def test_writing_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "file").symlink_to(tmp_path / "victim")
    files.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "in/../../secret", "link", "linked/file", "pipe", "in", "", "in/file/x"]
)
def test_reading_rejects_links_special_files_and_paths_outside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in" / "file").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "linked").symlink_to(root / "in")
    os.mkfifo(root / "pipe")
    with pytest.raises(OSError):
        files.open_inside(root, name)
    with files.open_inside(root, "in/file") as file:
        assert file.read() == b"x"


def test_root_may_be_given_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    with files.open_inside(tmp_path / "link", "file") as file:
        assert file.read() == b"x"


def test_hard_link_to_an_outside_file_is_unsafe(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"x")
    os.link(root / "a", root / "b")
    assert list(files.unsafe_entries(root)) == []
    os.link(root / "a", tmp_path / "outside")
    found = dict(files.unsafe_entries(root))
    assert set(found) == {"a", "b"}
    assert isinstance(found["a"], UnsafeFileError)
    assert "hard link to a file outside" in str(found["a"])
