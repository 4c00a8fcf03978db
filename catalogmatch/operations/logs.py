"""Log lines that can be followed: JSON or readable, each with the request that the work belongs to.

The id comes in or is made in ``catalogmatch.middleware``. It reaches a worker in two ways: in the headers of the
task that a request sent, and in the row of each picture, since a batch holds pictures of many requests and a lost
message must not lose it (``products.tracing``).
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun

from core.request_id import request_id

# What log calls may add by ``extra=``; anything else that they add stays out of the lines.
EXTRA_FIELDS = ("request_ids", "method", "path", "status", "milliseconds", "user")


class RequestIdFilter(logging.Filter):
    """Give each record its ``request_id``: the one that the log call named, else the current one."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


class PlainFormatter(logging.Formatter):
    """For people: time, level, logger, message, and the request in brackets where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        line = super().formatMessage(record)
        traced = getattr(record, "request_id", "") or ",".join(getattr(record, "request_ids", []))
        return f"{line} [{traced}]" if traced else line


class JsonFormatter(logging.Formatter):
    """For machines: one JSON object a line, in UTC, with the traceback as a field."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if traced := getattr(record, "request_id", ""):
            line["request_id"] = traced
        line |= {name: getattr(record, name) for name in EXTRA_FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configuration(*, as_json: bool, debug: bool) -> dict[str, Any]:
    """Django's LOGGING: everything to stderr in one format; our own packages from INFO (or DEBUG), others warn."""
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
        # Django's own handlers print only with DEBUG, and a second line for each 4xx says nothing new.
        # Celery tells of its start and of lost connections; of each task's result it need not.
        | {
            "celery": {"level": "INFO"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
            # Without a broker there is no host to name.
            "kombu.connection": {"level": "ERROR"},
            "django": {"handlers": [], "level": "WARNING", "propagate": True},
            "django.request": {"level": "ERROR"},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
        },
    }


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Workers log as the settings say; without a listener here Celery would set up its own."""


@before_task_publish.connect
def send_request_id(headers: dict[str, Any], **_: Any) -> None:
    """A task carries the id of the request that sends it."""
    if traced := request_id.get():
        headers["request_id"] = traced


@task_prerun.connect
def restore_request_id(task: Any, **_: Any) -> None:
    """A worker logs under the id that the task brought; an eager task stays in its request."""
    if not task.request.is_eager:
        request_id.set(task.request.get("request_id") or "")


@task_postrun.connect
def clear_request_id(task: Any, **_: Any) -> None:
    """What a worker does between two tasks belongs to no request."""
    if not task.request.is_eager:
        request_id.set("")
