"""What users and operators are told about a full disk and an unavailable or damaged database."""

from __future__ import annotations

import errno
import sqlite3
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from django.db import DatabaseError, InterfaceError, InternalError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from core import disk

# What Django raises if the database is away, ends the connection or takes no writes. PostgreSQL reports a transaction
# that it ended for its timeout, or a server that became read-only, as an internal error.
DATABASE_OUTAGES = (OperationalError, InterfaceError, InternalError)

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_DAMAGED_SQLITE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DAMAGED_POSTGRES_STATES = {"XX001", "XX002"}  # data_corrupted, index_corrupted


@dataclass(frozen=True, slots=True)
class Outage:
    """A failure of the installation.

    ``detail`` is for users. The log has the exact error with its paths.
    """

    status: int
    code: str
    detail: str | Promise


DISK_FULL = Outage(507, disk.DISK_FULL, _("The disk is full. Nothing of this request was stored. Try again later."))
DATABASE_UNAVAILABLE = Outage(
    503,
    "database_unavailable",
    # A connection can break after the commit, so this does not promise that nothing was stored.
    _("The database is not available at the moment. Try again."),
)
DATABASE_DAMAGED = Outage(
    503,
    "database_unavailable",
    _("The database is damaged. Nothing of this request was stored. Tell your administrator."),
)


def outage_of(error: BaseException | None) -> Outage | None:
    """Return the outage that caused ``error``, or None for any other error."""
    if isinstance(error, disk.NoRoomError):
        return Outage(507, error.code, str(error))
    if isinstance(error, OSError) and error.errno in _DISK_FULL_ERRNOS:
        return DISK_FULL
    if error is not None and _shows_damage(error):
        return DATABASE_DAMAGED
    if isinstance(error, DATABASE_OUTAGES):
        text = str(error)  # as SQLite and PostgreSQL say it
        return DISK_FULL if "disk is full" in text or "No space left" in text else DATABASE_UNAVAILABLE
    return None


def explain(error: BaseException) -> str | None:
    """Return sentences for the operator about the outage that caused ``error``, or None for any other error."""
    outage = outage_of(error)
    if outage is DATABASE_DAMAGED:
        return damaged_database(str(error))
    if outage is DATABASE_UNAVAILABLE:
        remedy = "Start it or correct DATABASE_URL. If it is new, run `manage.py migrate`."
        return f"The database {connection.settings_dict['NAME']} cannot be used: {error}. {remedy}"
    return f"{error}. Make room on the disk." if outage is DISK_FULL else None


def damaged_database(reason: str) -> str:
    """Return sentences for the operator of a damaged database."""
    name = connection.settings_dict["NAME"]
    return f"The database {name} is damaged: {reason}. Stop CatalogMatch and restore the newest backup."


def _shows_damage(error: BaseException) -> bool:
    """Return whether only a damaged database can cause ``error``."""
    if not isinstance(error, DatabaseError):
        codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        if isinstance(error, UnicodeDecodeError):
            # Python cannot decode SQLite's message, which quotes the damaged bytes.
            return bool(codes) and "sqlite" in Path(codes[-1].co_filename).parts[-2]
        # Django failed to convert a stored value, such as a date or JSON, which it had checked before it stored it.
        return isinstance(error, Exception) and any(map(_converts_values, codes))
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        # The lower byte is the code. Text that is not UTF-8 has none.
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return code in _DAMAGED_SQLITE_CODES or "Could not decode to UTF-8" in str(cause)
    return getattr(cause, "sqlstate", None) in _DAMAGED_POSTGRES_STATES


def _converts_values(code: CodeType) -> bool:
    """Return whether this is Django's code that converts stored values."""
    return code.co_name == "apply_converters" or (
        code.co_name == "<lambda>" and code.co_filename.endswith("sqlite3/base.py")
    )


def server_error(_request: HttpRequest) -> HttpResponse:
    """Render the page for an unexpected error without using the database.

    Django logs the traceback.
    """
    outage = outage_of(sys.exception())
    page = render_to_string("500.html", {"detail": outage.detail if outage else ""})
    return HttpResponse(page, status=outage.status if outage else 500)
