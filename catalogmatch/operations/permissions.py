"""Find what other accounts of the machine can read in the data folder. Nothing is changed here."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.db import connections

MAX_LISTED = 5_000  # entries of one folder, so that doctor stays quick with a million images
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# A group may be let in deliberately, but only if the data folder lets it through.
_TOO_OPEN = stat.S_IWGRP | stat.S_IRWXO


def too_open(*, deep: bool = False) -> list[Path]:
    """Return the data folder if it is not 0700, and the entries in it that are more open than 0640 or 0750.

    Looks at the database, at the folders and, with ``deep``, at the first entries in each of them.
    """
    data = Path(settings.DATA_DIR)
    found = [data] if _has(data, _OTHERS) else []
    return [*found, *(path for path in _entries(deep) if _has(path, _TOO_OPEN))]


def remedy() -> str:
    """Return the command that closes the data folder to other accounts."""
    return f"Run `chmod -R go= {settings.DATA_DIR}`."


def check_permissions(**_: Any) -> Sequence[CheckMessage]:
    """Warn if other accounts of the machine can read the data folder (a Django system check)."""
    paths = too_open()
    if not paths:
        return []
    text = f"Other accounts of this machine can read {paths[0]}, which holds images or hashes of passwords."
    return [Warning(text, hint=remedy(), id="catalogmatch.W001")]


def _entries(deep: bool) -> Iterator[Path]:
    name = str(connections["default"].settings_dict["NAME"])
    if connections["default"].vendor == "sqlite":
        yield from (Path(f"{name}{suffix}") for suffix in ("", "-wal", "-shm"))
    for folder in (settings.MEDIA_ROOT, settings.ORIGINALS_ROOT, settings.IMPORTS_ROOT, settings.INDEX_DIR):
        yield Path(folder)
        if deep:
            yield from islice(Path(folder).rglob("*"), MAX_LISTED)


def _has(path: Path, bits: int) -> bool:
    try:
        found = path.lstat()
    except OSError:  # not there yet, or just deleted
        return False
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & bits)
