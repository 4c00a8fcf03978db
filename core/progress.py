"""What long commands share: a progress bar with rate and remaining time, and a clean stop on Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import NoReturn

from tqdm import tqdm

# What ``progress_bar`` is: services that draw progress are given it, and know nothing of terminals.
ProgressBar = Callable[[int | None, str, str], AbstractContextManager["tqdm[NoReturn]"]]

EXIT_INTERRUPTED = 130  # the exit code that shells give a program stopped by Ctrl-C


@contextmanager
def progress_bar(total: int | None, what: str, unit: str) -> Iterator[tqdm[NoReturn]]:
    """A bar on stderr; where that is a file or a log it is drawn seldom. The log keeps to warnings meanwhile."""
    interval = 0.2 if sys.stderr.isatty() else 10
    loggers = [logging.getLogger(name) for name in ("gpu", "products", "matching")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        with tqdm(
            total=total, desc=what, unit=f" {unit}", mininterval=interval, dynamic_ncols=True, smoothing=0.1
        ) as bar:
            yield bar
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM ask to stop: the answered function then raises KeyboardInterrupt, wherever it is called.

    So the work stops between two rows or batches and never within one. A second signal stops at once.
    """
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
