"""Read product feeds as tables: RSS and Atom, whose items have an element for each column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import IO, cast

from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.spreadsheets import sheets
from core.spreadsheets.sheets import Sheet, SheetRow
from core.spreadsheets.xml import Attributes, Handler, parse

ITEMS = ("item", "entry")
JOINED_BY = " | "  # between the values of an element that an item has several times
MAX_FEED_COLUMNS = 1_000


def read_feed(file: IO[bytes], name: str) -> Sheet:
    """Read a feed. The first row names the elements, in order of appearance. Raises UnreadableFileError."""
    columns: dict[str, None] = {}
    total = 0
    for values in _items(file, name):
        total += 1
        columns |= dict.fromkeys(values)
        if len(columns) > MAX_FEED_COLUMNS:
            raise UnreadableFileError(_("%s has more different elements than a table may have columns.") % name)
    if not columns:
        text = _("%s is XML, but no feed of items as Google Merchant reads them. Save it as XLSX or “CSV UTF-8”.")
        raise UnreadableFileError(text % name)

    def rows() -> Iterator[SheetRow]:
        yield SheetRow(1, list(columns))
        for number, values in enumerate(_items(file, name), start=2):
            yield SheetRow(number, [values.get(column, "") for column in columns])

    return Sheet(name, rows, total + 1)


def _items(file: IO[bytes], name: str) -> Iterator[dict[str, str]]:
    file.seek(0)
    yield from cast(Iterator[dict[str, str]], parse(file, name, _Items(name)))


class _Items(Handler):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.depth = 0  # within an item: 1 is the item, 2 one of its elements
        self.values: dict[str, list[str]] = {}
        self.pieces: list[str] = []
        self.size = 0
        self.tags: Counter[str] = Counter()

    def start(self, name: str, attributes: Attributes) -> None:
        if self.depth:
            self.depth += 1
        elif name in ITEMS:
            self.depth, self.values, self.size = 1, {}, 0
        if self.depth == 2:
            self.pieces = []
            if name == "link" and "href" in attributes:  # Atom
                self.pieces.append(attributes["href"])

    def text(self, data: str) -> None:
        if self.depth >= 2:
            self.pieces.append(data)
            self.size += len(data)
            if self.size > sheets.MAX_ROW_CHARACTERS:
                text = _("%(file)s has an item of more than %(limit)s characters.")
                raise UnreadableFileError(text % {"file": self.name, "limit": f"{sheets.MAX_ROW_CHARACTERS:,}"})

    def end(self, name: str) -> None:
        if self.depth == 2:
            if text := "".join(self.pieces).strip():
                self.values.setdefault(name, []).append(text)
        elif self.depth == 1:
            self.found.append({column: JOINED_BY.join(texts) for column, texts in self.values.items()})
        self.depth = max(0, self.depth - 1)
