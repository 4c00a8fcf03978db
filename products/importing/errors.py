"""Why a row cannot be imported."""

from __future__ import annotations


class RowError(Exception):
    """A row that cannot be imported. ``code`` is stable, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
