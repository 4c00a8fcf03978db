"""A full disk and a database that cannot be used are nobody's mistake: what callers and people are told then."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Outage:
    """``detail`` is for people; what exactly happened is in the log, since it may name paths and hosts."""

    status: int
    code: str
    detail: str | Promise


DISK_FULL = Outage(507, "disk_full", _("The disk is full. Nothing of this request was stored. Try again later."))
DATABASE_UNAVAILABLE = Outage(
    503,
    "database_unavailable",
    _("The database cannot be used at the moment. Nothing of this request was stored. Try again."),
)


def outage_of(error: BaseException | None) -> Outage | None:
    """The outage that ``error`` speaks of; None for any other error."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return DISK_FULL
    if isinstance(error, OperationalError):
        text = str(error)  # SQLite's and PostgreSQL's words
        return DISK_FULL if "disk is full" in text or "No space left" in text else DATABASE_UNAVAILABLE
    return None


def server_error(_request: HttpRequest) -> HttpResponse:
    """Django's hook for what no page expected. Asks the database nothing; Django logs the traceback."""
    outage = outage_of(sys.exception())
    page = render_to_string("500.html", {"detail": outage.detail if outage else ""})
    return HttpResponse(page, status=outage.status if outage else 500)
