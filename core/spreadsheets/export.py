"""What every exported table needs: formats, limits and times. Which columns a table has is said elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _

from core.spreadsheets.writer import XLSX_MAX_CELL_LENGTH, XLSX_MAX_ROWS, Cell, csv_bytes, xlsx_bytes

ExportTable = Iterator[Sequence[Cell]]  # the first row is the header

# For each file suffix: content type and writer.
FORMATS: dict[str, tuple[str, Callable[[Iterable[Iterable[Cell]]], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", csv_bytes),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", xlsx_bytes),
}


class ExportError(Exception):
    """A table that cannot be exported. The message tells the user what to do."""

    code = "export_impossible"


def check_xlsx_limits(row_count: int, longest_text: int) -> None:
    """Raise ExportError if a workbook cannot hold so many rows or so long a text."""
    if row_count >= XLSX_MAX_ROWS:
        text = _("A workbook holds %(limit)s rows, and these are %(rows)s. Export them as CSV.")
        raise ExportError(text % {"limit": f"{XLSX_MAX_ROWS:,}", "rows": f"{row_count:,}"})
    if longest_text >= XLSX_MAX_CELL_LENGTH:
        text = _("One of the texts has %(length)s characters, and a cell of a workbook holds %(limit)s. Export as CSV.")
        raise ExportError(text % {"length": f"{longest_text:,}", "limit": f"{XLSX_MAX_CELL_LENGTH:,}"})


def format_time(at: datetime | None) -> str:
    """Return the time in the server's time zone with its offset, to the second."""
    return "" if at is None else timezone.localtime(at).isoformat(timespec="seconds")
