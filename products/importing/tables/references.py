"""Read the image references of a cell: names of files, paths and addresses, one or a list."""

from __future__ import annotations

import re
from collections.abc import Iterable

WORKBOOK_PREFIX = "workbook:"  # of an image that is a part of the table's file
_IMAGE_NAME = re.compile(
    r"[^\n|]*\.(?:jpe?g|jpe|jfif|png|webp|gif|tiff?|bmp|avif|hei[cf]|jxl|jp2)(?:[?#]\S*)?", re.IGNORECASE
)
_ADDRESS = re.compile(r"(?:https?:)?//\S+", re.IGNORECASE)
# A comma can be a part of an address. One that stands before another address is not.
_BETWEEN_ADDRESSES = re.compile(r"\s*[,;|\s]\s*(?=(?:https?:)?//)", re.IGNORECASE)
_ESCAPED_COMMA = "\\,"


def split_references(cell: str) -> list[str]:
    """Return the references of a cell in their order.

    Pipes and line ends always separate. Commas and semicolons do if each part is an image by itself, because names
    of files may contain them.
    """
    if _ADDRESS.match(cell):
        parts = _BETWEEN_ADDRESSES.split(cell)
        return [one for part in parts for one in _split_names(part)]
    return _split_names(cell)


def _split_names(cell: str) -> list[str]:
    parts = [part.strip() for part in re.split(r"[|\n\r]+", cell)]
    return [one for part in parts if part for one in _split_list(part)]


def _split_list(text: str) -> list[str]:
    for separator in (";", ","):
        parts = [part.strip() for part in text.split(separator)]
        filled = [part for part in parts if part]
        # The comma of an address is its own, unless each part is an address.
        is_list = all(map(_ADDRESS.fullmatch if _ADDRESS.match(text) else looks_like_image, filled))
        if len(parts) > 1 and filled and is_list:
            return [one for part in filled for one in _split_list(part)]
    return [text]


def looks_like_image(text: str) -> bool:
    """Return whether a text is an address, or names a file by an image's ending, or a list of these."""
    if _ADDRESS.fullmatch(text):
        return _IMAGE_NAME.search(text) is not None
    return len(text) < 2_000 and _IMAGE_NAME.fullmatch(text) is not None


def unique(references: Iterable[str]) -> tuple[str, ...]:
    """Return the references without repetitions."""
    return tuple(dict.fromkeys(references))
