"""Catalogues from files: a CSV or XLSX table, a folder or a ZIP of pictures, row by row through the intake."""

from core.errors import UnreadableFileError
from core.spreadsheets.reader import Table, open_table
from products.importing.run import Did, import_rows
from products.importing.sources import Source, open_source

__all__ = ["Did", "Source", "Table", "UnreadableFileError", "import_rows", "open_source", "open_table"]
