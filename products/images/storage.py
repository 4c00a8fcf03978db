"""Write and delete an image's files: derivative, thumbnail and original."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from gpu.sandbox import pool
from products.images import originals
from products.images.cleaning import CleanImage


def new_file_name() -> str:
    """Return a random name under MEDIA_ROOT for a derivative."""
    name = uuid.uuid4().hex
    return f"pictures/{name[:2]}/{name}.jpg"


def thumbnail_name(file_name: str) -> str:
    """Return the name of the thumbnail that belongs to a derivative."""
    return file_name.replace("pictures/", "thumbnails/", 1)


@contextmanager
def stored_files(images: Sequence[CleanImage]) -> Iterator[dict[str, str]]:
    """Write the images' files and yield their names by hash, outside any transaction.

    Delete the files if the block fails.
    """
    names: dict[str, str] = {}
    written: list[str] = []
    try:
        for image in images:
            name = new_file_name()
            written.append(name)
            default_storage.save(name, ContentFile(image.jpeg))
            default_storage.save(thumbnail_name(name), ContentFile(image.thumbnail))
            if image.original is not None:
                originals.keep_original(name, image.original)
            names[image.sha256] = name
        yield names
    except BaseException:
        delete_files(written)
        raise


def delete_files(file_names: Iterable[str]) -> None:
    """Delete these derivatives with their thumbnails and originals, if they exist."""
    for name in file_names:
        default_storage.delete(name)
        default_storage.delete(thumbnail_name(name))
        originals.delete_original(name)


def rebuild_thumbnail(file_name: str) -> None:
    """Write an image's thumbnail again from its derivative.

    Raises ImageProcessingError and FileNotFoundError.
    """
    data = Path(default_storage.path(file_name)).read_bytes()
    derived = pool.decode_in_sandbox(data, settings.DERIVATIVE_MAX_SIDE, settings.THUMBNAIL_SIDE)
    name = thumbnail_name(file_name)
    default_storage.delete(name)
    default_storage.save(name, ContentFile(derived.thumbnail))
