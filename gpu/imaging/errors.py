"""Why a picture cannot be used: a code for programs, a sentence for people."""

from __future__ import annotations

MAX_BYTES = 20 * 1024 * 1024


class ImageProcessingError(Exception):
    """A picture that cannot be used. ``code`` is stable (see the API's codes), ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[ImageProcessingError], tuple[str, str]]:
        """Pickled by both, since it travels between processes."""
        return type(self), (self.code, self.message)


def too_many_bytes(size: int) -> ImageProcessingError:
    """What to raise for a file of ``size`` bytes, which is over the limit."""
    return ImageProcessingError(
        "image_too_large", f"The file has {size / 2**20:.1f} MiB; the limit is {MAX_BYTES // 2**20} MiB."
    )


def too_much_memory() -> ImageProcessingError:
    """What to raise where decoding a picture ran out of memory."""
    return ImageProcessingError(
        "image_too_large", "Decoding the picture takes more memory than is allowed. Save it smaller, or as JPEG."
    )
