"""Why a file cannot be imported at all, or one row of it not."""

from __future__ import annotations


class ImportFileError(Exception):
    """A file of which nothing can be imported; the text says what to do."""

    code = "import_file_unusable"


class RowError(Exception):
    """A row that cannot be imported. ``code`` is stable, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
