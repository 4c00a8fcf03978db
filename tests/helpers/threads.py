"""Run functions in concurrent threads, each with its own database connection."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")


def run_concurrently(*functions: Callable[[], Result]) -> list[Result]:
    """Run these functions in threads. Return their results in order, or raise the first exception."""

    def run(function: Callable[[], Result]) -> Result:
        try:
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))
