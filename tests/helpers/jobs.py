"""Work that a page has started in the background."""

from __future__ import annotations

import threading


def wait_for_jobs() -> None:
    """Wait until every import and every deletion that this process has started is at its end."""
    for thread in threading.enumerate():
        if thread.name.startswith(("import ", "deletion ")):
            thread.join(120)
            assert not thread.is_alive()
