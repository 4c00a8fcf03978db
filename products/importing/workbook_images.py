"""Read the images in the sheets of a workbook, beside those of a folder or ZIP."""

from __future__ import annotations

from typing import IO

from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from products.importing.errors import RowError
from products.importing.image_sources import ImageSource, ZipSource
from products.importing.tables.references import WORKBOOK_PREFIX


class WorkbookImages:
    """Images of a table's workbook, and the others of ``images`` if there are any."""

    def __init__(self, images: ImageSource | None, workbook: ZipSource) -> None:
        self.images = images
        self.workbook = workbook

    def names(self) -> list[str]:
        return [] if self.images is None else self.images.names()

    def find_address(self, address: str) -> str | None:
        return None if self.images is None else self.images.find_address(address)

    def read(self, name: str, folder: str = "") -> bytes:
        if name.startswith(WORKBOOK_PREFIX):
            return self.workbook.read(name.removeprefix(WORKBOOK_PREFIX))
        if self.images is None:
            raise RowError("file_missing", _("%s is missing: the table was sent without a ZIP of images.") % name)
        return self.images.read(name, folder)

    def open(self, name: str) -> IO[bytes]:
        if self.images is None:
            raise UnreadableFileError(_("There is no file %s.") % name)
        return self.images.open(name)
