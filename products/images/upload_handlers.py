"""Limit uploaded files while they arrive, since Django's limits ignore files."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler

from gpu.imaging.errors import MAX_BYTES


class BoundedUploadHandler(FileUploadHandler):
    """Stop storing a file that is over the limit. Intake then rejects it."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.received_bytes = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if self.received_bytes > MAX_BYTES:
            return None
        self.received_bytes += len(raw_data)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Let the next handler return the file."""
