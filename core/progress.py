"""For long commands: a progress bar with rate and remaining time, and a clean stop on Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import NoReturn

from tqdm import tqdm

# The type of ``progress_bar``. Services receive it as an argument, so that they need not know about terminals.
ProgressBar = Callable[[int | None, str, str], AbstractContextManager["tqdm[NoReturn]"]]

EXIT_INTERRUPTED = 130  # the exit code that shells give a program stopped by Ctrl-C


@contextmanager
def progress_bar(total: int | None, what: str, unit: str) -> Iterator[tqdm[NoReturn]]:
    """Show a progress bar on stderr and log only warnings until it ends.

    If stderr is a file, the bar is redrawn rarely.
    """
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
    """Yield a function that raises KeyboardInterrupt after Ctrl-C or SIGTERM.

    Call it between rows or batches, so that a command never stops within one. A second signal stops at once.
    """
    received = False

    def receive(_signal: int, _frame: FrameType | None) -> None:
        nonlocal received
        if received:
            raise KeyboardInterrupt
        received = True

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
