"""Logging as JSON or plain lines, each with the id of its request.

``catalogmatch.web.request_log`` sets the id. It reaches workers in the headers of a task and in the row of each image.
The row is needed because a batch has images of many requests, and because messages can be lost.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun

from core.escaping import escape, escape_json
from core.request_id import is_valid, request_id

# The fields of ``extra=`` that are logged. All others are ignored.
EXTRA_FIELDS = ("request_ids", "method", "path", "status", "milliseconds", "user")


class RequestIdFilter(logging.Filter):
    """Add the current ``request_id`` to records that have none."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


class EscapingFormatter(logging.Formatter):
    """Format a record so that nothing in it can pass for another record.

    The first line has no control characters. The lines of a traceback follow it, each after ``CONTINUATION``.
    """

    CONTINUATION = "  | "

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        # Formatted here, because another formatter may have left its own text in ``exc_text``.
        traceback = self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        details = [line for text in (traceback, stack) if text for line in text.split("\n")]
        first = escape(self.formatMessage(record))
        return "\n".join([first, *(self.CONTINUATION + escape(line) for line in details)])


class PlainFormatter(EscapingFormatter):
    """Format time, level, logger, message, and the request id in brackets if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        line = super().formatMessage(record)
        ids = getattr(record, "request_id", "") or ",".join(map(str, getattr(record, "request_ids", [])))
        return f"{line} [{ids}]" if ids else line


class JsonFormatter(logging.Formatter):
    """Format one JSON object a line, with the time in UTC and the traceback as a field."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if current_id := getattr(record, "request_id", ""):
            line["request_id"] = current_id
        line |= {name: getattr(record, name) for name in EXTRA_FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line, ensure_ascii=False, default=str))


def configuration(*, as_json: bool, debug: bool) -> dict[str, Any]:
    """Return Django's LOGGING: all lines to stderr in one format, our packages from INFO or DEBUG."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"traced": {"()": RequestIdFilter}},
        "formatters": {"line": {"()": JsonFormatter if as_json else PlainFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["traced"]}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            name: {"level": "DEBUG" if debug else "INFO"} for name in ("gpu", "products", "matching", "catalogmatch")
        }
        # Django's handlers print only with DEBUG, and the request log has a line for each 4xx already.
        # Celery logs its start and lost connections, but not the result of each task.
        | {
            "celery": {"level": "INFO"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
            # Without a broker, kombu warns about a missing host name.
            "kombu.connection": {"level": "ERROR"},
            "django": {"handlers": [], "level": "WARNING", "propagate": True},
            "django.request": {"level": "ERROR"},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
        },
    }


@setup_logging.connect
def keep_django_logging(**_: Any) -> None:
    """Keep Django's LOGGING in workers. Without a receiver Celery would set up its own."""


@before_task_publish.connect
def send_request_id(headers: dict[str, Any], **_: Any) -> None:
    """Add the id of the current request to the headers of a task."""
    if current_id := request_id.get():
        headers["request_id"] = current_id


@task_prerun.connect
def restore_request_id(task: Any, **_: Any) -> None:
    """Set the request id from the headers of the task. An eager task keeps the id of its request."""
    if not task.request.is_eager:
        given = task.request.get("request_id")
        request_id.set(given if is_valid(given) else "")


@task_postrun.connect
def clear_request_id(task: Any, **_: Any) -> None:
    """Clear the request id, because a worker serves no request between two tasks."""
    if not task.request.is_eager:
        request_id.set("")
