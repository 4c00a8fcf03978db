"""Gunicorn's own loggers, with lines that a request cannot forge."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger

from catalogmatch.operations.logs import EscapingFormatter


class EscapingLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Write gunicorn's error log and access log in their usual formats, with control characters escaped."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                usual = handler.formatter or logging.Formatter()
                handler.setFormatter(EscapingFormatter(usual._fmt, usual.datefmt))
