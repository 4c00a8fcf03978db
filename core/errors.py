"""Errors that several packages raise."""

from __future__ import annotations


class UnreadableFileError(Exception):
    """A file of which nothing can be read. The message tells the user what to do."""

    code = "import_file_unusable"
