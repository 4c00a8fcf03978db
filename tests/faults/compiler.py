"""Compile a small C library that a test loads into processes with LD_PRELOAD."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def compile_library(source: Path, folder: Path) -> Path:
    """Compile ``source`` into ``folder``. Skip the test if there is no compiler; in CI that is a failure."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing = "there is no C compiler (cc)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    library = folder / f"{source.stem}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library
