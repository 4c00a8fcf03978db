"""The error of a row that cannot be imported."""

from __future__ import annotations


class RowError(Exception):
    """A row cannot be imported. ``code`` is stable. The message is for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
