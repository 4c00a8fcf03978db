"""Work that several threads do at the same time, each with a database connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")


def run_concurrently(*work: Callable[[], Result]) -> list[Result]:
    """What each of these answers, in order. Raises what one of them raises."""

    def done(one: Callable[[], Result]) -> Result:
        try:
            return one()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(done, work))
