"""The error for an image that cannot be used: a code for programs, a sentence for users."""

from __future__ import annotations

from gpu.imaging.limits import MAX_BYTES

__all__ = ["MAX_BYTES", "ImageProcessingError", "too_many_bytes", "too_much_memory"]


class ImageProcessingError(Exception):
    """An image that cannot be used. ``code`` is stable, ``message`` is for users."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[ImageProcessingError], tuple[str, str]]:
        """Pickle both arguments; the error travels between processes."""
        return type(self), (self.code, self.message)


def too_many_bytes(size: int, limit: int = MAX_BYTES) -> ImageProcessingError:
    """Return the error for a file of ``size`` bytes, which is over the limit."""
    return ImageProcessingError(
        "image_too_large", f"The file has {size / 2**20:.1f} MiB, more than the limit of {limit // 2**20} MiB."
    )


def too_much_memory() -> ImageProcessingError:
    """Return the error for an image whose decoding ran out of memory."""
    return ImageProcessingError(
        "image_too_large", "Decoding the image takes more memory than is allowed. Save it smaller, or as JPEG."
    )
