"""Responses for a full disk or an unavailable database."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Outage:
    """A failure of the installation.

    ``detail`` is for users. The log has the exact error with its paths.
    """

    status: int
    code: str
    detail: str | Promise


DISK_FULL = Outage(507, "disk_full", _("The disk is full. Nothing of this request was stored. Try again later."))
DATABASE_UNAVAILABLE = Outage(
    503,
    "database_unavailable",
    _("The database is not available at the moment. Nothing of this request was stored. Try again."),
)


def outage_of(error: BaseException | None) -> Outage | None:
    """Return the outage that caused ``error``, or None for any other error."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL_ERRNOS:
        return DISK_FULL
    if isinstance(error, OperationalError):
        text = str(error)  # as SQLite and PostgreSQL say it
        return DISK_FULL if "disk is full" in text or "No space left" in text else DATABASE_UNAVAILABLE
    return None


def server_error(_request: HttpRequest) -> HttpResponse:
    """Render the page for an unexpected error without using the database.

    Django logs the traceback.
    """
    outage = outage_of(sys.exception())
    page = render_to_string("500.html", {"detail": outage.detail if outage else ""})
    return HttpResponse(page, status=outage.status if outage else 500)
