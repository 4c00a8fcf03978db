"""Bounds an upload while it arrives, since Django's own limits do not count files."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler

from gpu.imaging.errors import MAX_BYTES


class BoundedUploadHandler(FileUploadHandler):
    """Keeps no more of a file than shows that it is over the limit; intake then refuses it with its code."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.kept = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if self.kept > MAX_BYTES:
            return None
        self.kept += len(raw_data)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to the next handler."""
