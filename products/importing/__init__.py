"""Catalogues from files: a CSV or XLSX table, a folder or a ZIP of pictures, row by row through the intake."""

from products.importing.errors import ImportFileError
from products.importing.run import Did, import_rows
from products.importing.sources import Source, open_source
from products.importing.tables import Table, open_table

__all__ = ["Did", "ImportFileError", "Source", "Table", "import_rows", "open_source", "open_table"]
