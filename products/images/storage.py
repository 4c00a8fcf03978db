"""Write and delete an image's files: derivative, thumbnail and original.

They are on the disk, not only in the cache, before the commit that makes their row visible (ADR 57).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection, transaction

from core import files
from core.outages import DATABASE_OUTAGES
from gpu.images import DECODING
from gpu.sandbox import pool
from products.images import originals
from products.images.cleaning import CleanImage


def new_file_name(shard: str = "") -> str:
    """Return a random name under MEDIA_ROOT for a derivative, in the folder ``shard`` (two hex digits) if given."""
    name = shard + uuid.uuid4().hex[len(shard) :]
    return f"pictures/{name[:2]}/{name}.jpg"


def thumbnail_name(file_name: str) -> str:
    """Return the name of the thumbnail that belongs to a derivative."""
    return file_name.replace("pictures/", "thumbnails/", 1)


_PARTS = (str, thumbnail_name)  # a derivative's name and its thumbnail's


class StagedFiles:
    """Files of images that are on the disk before their rows, so that a group of rows needs one sync.

    As a context manager, removes the files that no row took.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __enter__(self) -> StagedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        delete_files(self._names.values())

    def write(self, images: Iterable[CleanImage]) -> None:
        """Write the files of these images. The images that are there already are not written again."""
        new = {image.sha256: image for image in images if image.sha256 not in self._names}
        self._names |= _write_images(list(new.values()))

    def take(self, sha256: str) -> str | None:
        """Return the file name of an image and leave its files to the caller. None if it is not staged."""
        return self._names.pop(sha256, None)


@contextmanager
def stored_files(images: Sequence[CleanImage], staged: StagedFiles | None = None) -> Iterator[dict[str, str]]:
    """Write the images' files and yield their names by hash, outside any transaction.

    Delete the files if the block fails, except those that it removed from the names. ``staged`` holds files that were
    written before and are used instead.
    """
    names: dict[str, str] = {}
    try:
        for image in images:
            if staged is not None and (name := staged.take(image.sha256)):
                names[image.sha256] = name
        names |= _write_images([image for image in images if image.sha256 not in names])
        yield names
    except BaseException:
        delete_files(names.values())
        raise


@contextmanager
def saving_rows(names: dict[str, str]) -> Iterator[None]:
    """Save the rows of stored files in a transaction. Keep the files if it may have been committed.

    If a connection to PostgreSQL breaks during the commit, the rows may exist. Then their files must exist too, and
    `verify --fix` removes them if not.
    """
    is_committing = False
    try:
        with transaction.atomic():
            yield
            is_committing = True
    except DATABASE_OUTAGES:
        if is_committing and connection.vendor == "postgresql":
            names.clear()
        raise


def delete_files(file_names: Iterable[str]) -> None:
    """Delete these derivatives with their thumbnails and originals, if they exist."""
    for name in file_names:
        default_storage.delete(name)
        default_storage.delete(thumbnail_name(name))
        originals.delete_original(name)


def copy_files(file_name: str) -> str:
    """Copy a derivative with its thumbnail and original. Return the new name. Raises OSError."""
    copy = new_file_name()
    pairs = [(Path(default_storage.path(part(file_name))), Path(default_storage.path(part(copy)))) for part in _PARTS]
    pairs.append((originals.original_path(file_name), originals.original_path(copy)))
    files.write_files({target: source.read_bytes() for source, target in pairs if source.exists()})
    return copy


def rebuild_thumbnail(file_name: str) -> dict[str, str | int]:
    """Write an image's thumbnail again from its derivative. Return its checksum and size by column.

    Raises ImageProcessingError and OSError.
    """
    data = Path(default_storage.path(file_name)).read_bytes()
    derived = pool.decode_in_sandbox(data, settings.DERIVATIVE_MAX_SIDE, settings.THUMBNAIL_SIDE)
    files.write_file(Path(default_storage.path(thumbnail_name(file_name))), derived.thumbnail)
    return {
        "thumbnail_sha256": hashlib.sha256(derived.thumbnail).hexdigest(),
        "thumbnail_bytes": len(derived.thumbnail),
    }


def rebuild_from_original(file_name: str) -> dict[str, str | int]:
    """Write an image's derivative and thumbnail again from its original. Return checksums and sizes by column.

    Raises ImageProcessingError and OSError.
    """
    data = originals.original_path(file_name).read_bytes()
    derived = pool.decode_in_sandbox(data, settings.DERIVATIVE_MAX_SIDE, settings.THUMBNAIL_SIDE)
    paths = [Path(default_storage.path(name)) for name in (file_name, thumbnail_name(file_name))]
    files.write_files(dict(zip(paths, (derived.jpeg, derived.thumbnail), strict=True)))
    return {
        "file_sha256": hashlib.sha256(derived.jpeg).hexdigest(),
        "thumbnail_sha256": hashlib.sha256(derived.thumbnail).hexdigest(),
        "file_bytes": len(derived.jpeg),
        "thumbnail_bytes": len(derived.thumbnail),
        "decoding": DECODING,
    }


def file_columns(image: CleanImage) -> dict[str, Any]:
    """Return the checksums and sizes of an image's files by column."""
    return {
        "file_sha256": hashlib.sha256(image.jpeg).hexdigest(),
        "thumbnail_sha256": hashlib.sha256(image.thumbnail).hexdigest(),
        "file_bytes": len(image.jpeg),
        "thumbnail_bytes": len(image.thumbnail),
        "original_bytes": len(image.original or b""),
    }


def _write_images(images: Sequence[CleanImage]) -> dict[str, str]:
    """Write the files of these images in one pass and return the names by hash. Leave nothing if it fails."""
    if not images:
        return {}
    # One folder for all, so that one sync of it serves the group. 120 random bits remain in each name.
    shard = uuid.uuid4().hex[:2]
    names = {image.sha256: new_file_name(shard) for image in images}
    contents: dict[Path, bytes] = {}
    for image in images:
        name = names[image.sha256]
        contents[Path(default_storage.path(name))] = image.jpeg
        contents[Path(default_storage.path(thumbnail_name(name)))] = image.thumbnail
        if image.original is not None:
            contents[originals.original_path(name)] = image.original
    try:
        files.write_files(contents)
    except BaseException:
        delete_files(names.values())
        raise
    return names
