"""Run manage.py on separate installations, each with its own data folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def manage(data: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a management command on the installation in ``data`` to its end. The folder need not exist."""
    command = [sys.executable, str(REPO / "manage.py"), *arguments]
    return subprocess.run(command, env=environment(data, **env), cwd=REPO, capture_output=True, text=True, timeout=120)


def start(data: Path, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
    """Start a management command that runs until it is killed."""
    command = [sys.executable, str(REPO / "manage.py"), *arguments]
    return subprocess.Popen(command, env=environment(data, **env), cwd=REPO, start_new_session=True)


def environment(data: Path, **env: str) -> dict[str, str]:
    """Return environment variables for the installation, whose database is the file in its data folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return inherited | {"CATALOGMATCH_DATA_DIR": str(data)} | env
