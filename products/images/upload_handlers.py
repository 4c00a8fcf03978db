"""Limit uploaded files while they arrive, since Django's limits ignore files."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler

from gpu.imaging.limits import MAX_BYTES, max_bytes


class BoundedUploadHandler(FileUploadHandler):
    """Stop storing a file that is over the limit. Intake then rejects it."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.received_bytes = 0
        self.max_bytes = MAX_BYTES

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if start == 0:
            self.max_bytes = max_bytes(raw_data[:3])
        if self.received_bytes > self.max_bytes:
            return None
        self.received_bytes += len(raw_data)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Let the next handler return the file."""
