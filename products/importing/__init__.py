"""Catalogues from files: a CSV or XLSX table, a folder or a ZIP of pictures, row by row through the intake."""

from products.importing.errors import ImportFileError, RowError
from products.importing.run import Did, Result, import_rows
from products.importing.sources import Kept, Row, Source, open_source, open_upload
from products.importing.tables import Table, TableRow, open_table

__all__ = [
    "Did",
    "ImportFileError",
    "Kept",
    "Result",
    "Row",
    "RowError",
    "Source",
    "Table",
    "TableRow",
    "import_rows",
    "open_source",
    "open_table",
    "open_upload",
]
