"""What lies in a folder."""

from __future__ import annotations

from pathlib import Path


def files_in(folder: Path) -> list[str]:
    """Paths of all files below ``folder``, relative to it; none for a folder that is not there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
