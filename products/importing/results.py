"""What became of an import's rows, in files of one line a row, one file for each kind of result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any

from core.spreadsheets.writer import csv_bytes
from products.importing.importer import RowResult, RowStatus

MAX_SHOWN_LENGTH = 300  # characters of a value that a preview shows


class ImportResults:
    """A folder of results. Lines are written through at once, so that an import that was stopped goes on after them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def counts(self) -> dict[str, int]:
        """Results of each kind, by its name. A line that was cut off is none."""
        counted = {}
        for did in RowStatus:
            if self._path(did).exists():
                with self._path(did).open("rb") as file:
                    counted[did.name] = sum(line.endswith(b"\n") for line in file)
        return counted

    def page(self, did: RowStatus, number: int, size: int) -> list[dict[str, Any]]:
        """The results of a kind that stand on a page, counted from 1."""
        with ExitStack() as stack:
            return [json.loads(line) for line in islice(self._lines(did, stack), (number - 1) * size, number * size)]

    def refused_csv(self, columns: Sequence[str]) -> Iterator[bytes]:
        """The refused rows as they came, behind number and reason, to be corrected and loaded again."""

        def rows() -> Iterator[list[str]]:
            yield ["(row)", "(reason)", *columns]
            with ExitStack() as stack:
                for line in self._lines(RowStatus.REJECTED, stack):
                    one = json.loads(line)
                    yield [str(one["row"]), one["reason"], *one["raw"]]

        return csv_bytes(rows())

    def writer(self, stack: ExitStack) -> ResultsWriter:
        """Where to add results until ``stack`` ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return ResultsWriter({did: stack.enter_context(self._open_to_add(did)) for did in RowStatus})

    def _open_to_add(self, did: RowStatus) -> IO[str]:
        """The file, behind its last whole line."""
        with self._path(did).open("ab+") as file:
            file.seek(0)
            whole = 0
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
            file.truncate(whole)
        return self._path(did).open("a", encoding="utf-8", buffering=1)

    def _lines(self, did: RowStatus, stack: ExitStack) -> Iterator[str]:
        if not self._path(did).exists():
            return iter(())
        return iter(stack.enter_context(self._path(did).open(encoding="utf-8")))

    def _path(self, did: RowStatus) -> Path:
        return self.folder / f"{did.name.lower()}.jsonl"


class ResultsWriter:
    def __init__(self, files: dict[RowStatus, IO[str]]) -> None:
        self.files = files

    def write(self, result: RowResult) -> None:
        line: dict[str, Any] = {"row": result.row.number, "label": _cut(result.row.label)}
        if result.did is RowStatus.REJECTED:
            line |= {"code": result.code, "reason": result.reason, "raw": list(result.row.raw)}
        elif result.changes:
            line["changes"] = [
                {"name": _cut(change.name), "old": _cut(change.old), "new": _cut(change.new)}
                for change in result.changes
            ]
        self.files[result.did].write(json.dumps(line) + "\n")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"
