"""One picture: sniff, bound and decode it to upright RGB, or say with a code why not."""

from __future__ import annotations


class ImageProcessingError(Exception):
    """A picture that cannot be used. ``code`` is stable (see the API's codes), ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
