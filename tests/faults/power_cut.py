"""A power cut: rebuilds a folder as if only what its processes synced had reached the disk.

``power_cut.c`` records each sync of a process. The folder is rebuilt from the state at the start and these records.
A folder has the entries of its last sync, a file the content of its last sync, and a file that was never synced is
empty. File systems keep more than that, but none promises more.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.faults.compiler import compile_library

SOURCE = Path(__file__).with_name("power_cut.c")


@dataclass(frozen=True, slots=True)
class Entry:
    inode: int
    is_folder: bool
    name: str


class PowerCut:
    """Records what is synced below ``root``, from now on, by processes that get ``env``."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._base, self._journal = folder / "base", folder / "journal"
        self._journal.mkdir(parents=True)
        self._base.mkdir()
        self._listings: dict[int, list[Entry]] = {}
        self._remember(root)
        self.env = {
            "LD_PRELOAD": str(compile_library(SOURCE, folder)),
            "POWER_CUT_ROOT": str(root),
            "POWER_CUT_JOURNAL": str(self._journal),
        }

    def moment(self) -> int:
        """Return the number of syncs so far."""
        events = self._journal / "events"
        return events.read_bytes().count(b"\n") if events.exists() else 0

    def rebuild(self, moment: int, target: Path) -> None:
        """Write to ``target``, which must not exist, what a power cut after so many syncs leaves."""
        synced: dict[int, tuple[int, Path]] = {}
        for line in (self._journal / "events").read_text().splitlines()[:moment]:
            inode, started, name = line.split()
            # Two syncs of one file can overlap. The one that began later saw more.
            synced[int(inode)] = max(synced.get(int(inode), (0, Path())), (int(started), self._journal / name))
        self._write_folder(self._root.stat().st_ino, target, synced)

    def _write_folder(self, inode: int, target: Path, synced: dict[int, tuple[int, Path]]) -> None:
        target.mkdir()
        entries = _read_listing(synced[inode][1]) if inode in synced else self._listings.get(inode, [])
        for entry in entries:
            path = target / entry.name
            if entry.is_folder:
                self._write_folder(entry.inode, path, synced)
            elif entry.inode in synced:
                shutil.copyfile(synced[entry.inode][1], path)
            elif (self._base / str(entry.inode)).exists():
                shutil.copyfile(self._base / str(entry.inode), path)
            else:
                path.touch()

    def _remember(self, folder: Path) -> None:
        entries = [Entry(path.stat().st_ino, path.is_dir(), path.name) for path in folder.iterdir()]
        self._listings[folder.stat().st_ino] = entries
        for entry in entries:
            if entry.is_folder:
                self._remember(folder / entry.name)
            else:
                shutil.copyfile(folder / entry.name, self._base / str(entry.inode))


def _read_listing(path: Path) -> list[Entry]:
    entries = []
    for line in path.read_text().split("\0")[:-1]:
        inode, kind, name = line.split(" ", 2)
        entries.append(Entry(int(inode), kind == "d", name))
    return entries
