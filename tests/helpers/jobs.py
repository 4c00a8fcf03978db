"""Wait for background jobs that a page has started."""

from __future__ import annotations

import threading


def wait_for_jobs() -> None:
    """Wait until every import, fetch, deletion and model job of this process has finished."""
    for thread in threading.enumerate():
        if thread.name.startswith(("import ", "deletion ", "fetch images", "modeljob ")):
            thread.join(120)
            assert not thread.is_alive()
