"""Read tables of text: CSV, TSV and their kin, in the encodings and quotings that programs write."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Literal

from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.spreadsheets import sheets
from core.spreadsheets.sheets import Sheet, SheetRow

DELIMITERS = (",", ";", "\t", "|")
MAX_ROWS = 10_000_000  # of a CSV, which can hold millions of empty ones
MAX_PROBLEM_TEXT = 30_000  # characters kept of a row that cannot be read
HEADER_ROWS = 30  # first rows among which the header is looked for
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK = 2**20
_ASCII = bytes(range(128))
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
# How much a character speaks for a Western European text. Any other beyond ASCII speaks against it.
_LETTERS = frozenset("äöüßÄÖÜéèêëàâáíóúñçôîûïœæøåãõìòùÉÈÀÇÁÍÓÚÑÊÂÔØÅ")
_SIGNS = frozenset("€–—’‘“”„°²³®©™½«»…§·•×£µ±\u00a0")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Lines that are not valid CSV, and why. ``is_fatal``: what follows cannot be told apart either."""

    text: str
    reason: str
    is_fatal: bool


@dataclass(frozen=True, slots=True)
class _Dialect:
    """``has_backslashes``: quotes are escaped by backslashes. ``is_literal``: quotes are plain characters."""

    delimiter: str
    has_backslashes: bool = False
    is_literal: bool = False


@dataclass(slots=True)
class _Survey:
    """What a whole file looks like in a dialect. ``lines``: more than the rows, if rows span several lines."""

    rows: int = 0
    lines: int = 0
    unreadable: int = 0
    uneven: int = 0
    too_wide: int = 0
    fatal: str = ""


def read_text(file: IO[bytes], name: str, score: Callable[[Sequence[str]], int]) -> Sheet:
    """Read a table of text. ``score`` tells how much a row looks like a header. Raises UnreadableFileError.

    The whole file is read once, to find a wrong encoding or an open quote before anything is done with its rows.
    """
    encoding = _encoding(file, name)
    file.seek(0)
    text = _Text(io.TextIOWrapper(file, encoding=encoding, newline=""), name)
    try:
        delimiters = [separator] if (separator := text.declared_separator()) else DELIMITERS
        dialect = max(map(_Dialect, delimiters), key=lambda one: text.fit(one, score))
        if text.too_long and text.fit(dialect, score)[0] == 0:
            raise UnreadableFileError(text.too_long)
        dialect, total = text.choose(dialect, score)
    except UnicodeError as error:
        raise UnreadableFileError(_not_decodable(name)) from error
    if total > MAX_ROWS + 1:
        text_ = _("%(file)s has more than %(limit)s rows. Split it.")
        raise UnreadableFileError(text_ % {"file": name, "limit": f"{MAX_ROWS:,}"})
    notes = {"cp1252": _("It was read as Windows-1252."), "mac_roman": _("It was read as Mac Roman.")}
    return Sheet(name, lambda: text.rows(dialect), total, notes.get(encoding, ""))


def _encoding(file: IO[bytes], name: str) -> str:
    """Return the encoding by the marks in the file, else by what all of it can be. Raises UnreadableFileError."""
    head = file.read(4)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if head[1:2] == b"\x00":
        return "utf-16-le"
    if head[:1] == b"\x00":
        return "utf-16-be"
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8, line, sequences = True, 1, 0
    counts: Counter[int] = Counter()
    characters = 0  # of the last line, at least
    while chunk := file.read(_CHUNK):
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        rest = chunk[end + 1 :]
        characters = (0 if end >= 0 else characters) + len(rest) // (1 if rest.isascii() else 4)
        if characters > sheets.MAX_ROW_CHARACTERS:
            raise UnreadableFileError(_too_long(name, line))
        if chunk.isascii():
            line += chunk.count(b"\n") if is_utf8 else 0
            continue
        sequences += sum(1 for _match in _UTF8_SEQUENCE.finditer(chunk))
        counts.update(chunk.translate(None, _ASCII))
        if is_utf8:
            try:
                decoder.decode(chunk)
                line += chunk.count(b"\n")
            except UnicodeDecodeError as error:
                is_utf8 = False
                line += error.object.count(b"\n", 0, error.start)
    if is_utf8:
        try:
            decoder.decode(b"", final=True)
            return "utf-8"
        except UnicodeDecodeError:
            pass
    # Two bytes of every sequence are beyond ASCII, at least. Letters of other encodings stand alone.
    if 2 * sequences > counts.total() / 2:
        reason = _("%(file)s is UTF-8, but line %(line)d has bytes that are not. Save it again as “CSV UTF-8”.")
        raise UnreadableFileError(reason % {"file": name, "line": line})
    return max(("cp1252", "mac_roman"), key=lambda encoding: _plausibility(counts, encoding))


def _plausibility(counts: Counter[int], encoding: str) -> int:
    score = 0
    for byte, count in counts.items():
        char = bytes([byte]).decode(encoding, "replace")
        score += count * (3 if char in _LETTERS else 1 if char in _SIGNS else -2)
    return score


def _too_long(name: str, line: int) -> str:
    values = {"file": name, "limit": f"{sheets.MAX_ROW_CHARACTERS:,}", "line": line}
    reason = _("%(file)s has a row of more than %(limit)s characters, from line %(line)d on. ") % values
    return reason + _("Look for missing line ends or a missing quote.")


def _not_decodable(name: str) -> str:
    text = _("%s is neither UTF-8, UTF-16, Windows-1252 nor Mac Roman. Save it as “CSV UTF-8”.")
    return text % name


class _Text:
    def __init__(self, file: io.TextIOWrapper, name: str) -> None:
        self.file = file
        self.name = name
        self.start_lines = 0
        self.too_long = ""  # why a row of the file is too long in some dialect

    def declared_separator(self) -> str:
        """Return the separator that the first line declares, as in ``sep=;``, or ""."""
        self.file.seek(0)
        declared = _SEPARATOR_LINE.fullmatch(self.file.readline(20).lstrip("\ufeff"))
        self.start_lines = 1 if declared else 0
        return declared[1] if declared else ""

    def rows(self, dialect: _Dialect) -> Iterator[SheetRow]:
        for number, (cells, _lines) in enumerate(self._records(dialect), start=1):
            if isinstance(cells, _Unreadable):
                if cells.is_fatal:
                    raise UnreadableFileError(cells.reason)
                problem = _("the row is not proper CSV (%(reason)s); look for a stray or missing quote")
                yield SheetRow(number, [cells.text], problem=problem % {"reason": cells.reason})
            else:
                yield SheetRow(number, cells)

    def fit(self, dialect: _Dialect, score: Callable[[Sequence[str]], int]) -> tuple[int, int]:
        """Return how well the first rows fit a dialect: the best header's score, and its number of columns."""
        first = [cells for cells, _line in islice(self._records(dialect), HEADER_ROWS) if isinstance(cells, list)]
        return max(((score(cells), len(cells)) for cells in first), default=(0, 0))

    def choose(self, dialect: _Dialect, score: Callable[[Sequence[str]], int]) -> tuple[_Dialect, int]:
        """Return the dialect of the delimiter's that reads the whole file, and its rows. Raises UnreadableFileError."""
        delimiter = dialect.delimiter
        usual = self._survey(dialect, score)
        if usual.unreadable or usual.too_wide or (delimiter == "\t" and usual.lines > usual.rows):
            # Only a file that another dialect reads without any doubt is read so.
            for other in (_Dialect(delimiter, has_backslashes=True), _Dialect(delimiter, is_literal=True)):
                if other.is_literal and delimiter != "\t":
                    continue
                survey = self._survey(other, score)
                if not (survey.unreadable or survey.too_wide) and (not other.is_literal or not survey.uneven):
                    is_needed = usual.unreadable or usual.too_wide or (other.is_literal and survey.rows > usual.rows)
                    if is_needed:
                        return other, survey.rows
        if usual.fatal:
            raise UnreadableFileError(usual.fatal)
        return dialect, usual.rows

    def _survey(self, dialect: _Dialect, score: Callable[[Sequence[str]], int]) -> _Survey:
        width = self.fit(dialect, score)[1]
        survey = _Survey()
        for cells, lines in islice(self._records(dialect), MAX_ROWS + 2):
            survey.rows += 1
            survey.lines += lines
            if isinstance(cells, _Unreadable):
                survey.unreadable += 1
                survey.fatal = survey.fatal or (cells.reason if cells.is_fatal else "")
                if cells.is_fatal:
                    break
            elif any(cells):
                survey.too_wide += any(cells[width:])
                survey.uneven += len(cells) != width
        return survey

    def _records(self, dialect: _Dialect) -> Iterator[tuple[list[str] | _Unreadable, int]]:
        """Yield each record with the number of its lines. A fatal one is the last."""
        limit = sheets.MAX_ROW_CHARACTERS
        csv.field_size_limit(max(csv.field_size_limit(), limit + 1))  # otherwise a longer cell is torn in two
        self.file.seek(0)
        for _number in range(self.start_lines):
            self.file.readline()
        read: list[str] = []
        is_too_long = False

        def lines() -> Iterator[str]:
            nonlocal is_too_long
            size = 0
            while line := self.file.readline(limit + 1):
                size = len(line) if not read else size + len(line)
                read.append(line)
                if size > limit:
                    is_too_long = True
                    return
                yield _ESCAPED.sub(_unescaped, line) if dialect.has_backslashes else line

        quoting: Literal[0, 3] = csv.QUOTE_NONE if dialect.is_literal else csv.QUOTE_MINIMAL
        reader = csv.reader(lines(), delimiter=dialect.delimiter, quoting=quoting, strict=True)
        first = 1 + self.start_lines
        while True:
            read.clear()
            cells: list[str] | _Unreadable | None = None
            try:
                cells = [cell.strip() for cell in next(reader)]
            except StopIteration:
                pass
            except csv.Error as error:
                cells = self._unreadable(read, first, error)
            if is_too_long:
                self.too_long = _too_long(self.name, first)
                cells = _Unreadable("", self.too_long, is_fatal=True)
            if cells is None:
                return
            yield cells, len(read)
            if isinstance(cells, _Unreadable) and cells.is_fatal:
                return
            first += len(read)

    def _unreadable(self, read: list[str], first: int, error: csv.Error) -> _Unreadable:
        """Return the lines as a bad row. Raise nothing yet: another dialect may read them."""
        if len(read) < 2 and "unexpected end of data" not in str(error):
            return _Unreadable("".join(read)[:MAX_PROBLEM_TEXT].strip(), str(error), is_fatal=False)
        reason = _("%(file)s has a quote in line %(line)d that is not closed properly. Nothing was read beyond it. ")
        reason += _("Remove the quote, or double it if it belongs to the text.")
        return _Unreadable("", reason % {"file": self.name, "line": self._quoted_line(read, first)}, is_fatal=True)

    @staticmethod
    def _quoted_line(read: list[str], first: int) -> int:
        """Return the line of the last odd quote before the record ran on."""
        return next((first + index for index, line in enumerate(read) if line.count('"') % 2), first)


def _unescaped(match: re.Match[str]) -> str:
    return '""' if match[1] == '"' else "\\"
