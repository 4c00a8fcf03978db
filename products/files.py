"""The files of pictures in the storage: derivative, thumbnail and original, written and removed together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from gpu import box_pool
from products import originals
from products.models import ProductImage, picture_path

if TYPE_CHECKING:
    from products.intake import CleanPicture


@contextmanager
def stored(pictures: Sequence[CleanPicture]) -> Iterator[dict[str, str]]:
    """Write the pictures' files, outside any transaction, and take them away again when the block fails."""
    names: dict[str, str] = {}
    written: list[str] = []
    try:
        for picture in pictures:
            image = ProductImage(file=picture_path(ProductImage(), ""))
            name = str(image.file.name)
            written.append(name)
            default_storage.save(name, ContentFile(picture.jpeg))
            default_storage.save(image.thumbnail_name, ContentFile(picture.thumbnail))
            if picture.original is not None:
                originals.keep(name, picture.original)
            names[picture.sha256] = name
        yield names
    except BaseException:
        remove(written)
        raise


def remove(file_names: Iterable[str]) -> None:
    """Delete the derivatives of these names with their thumbnails and originals; missing ones are fine."""
    for name in file_names:
        default_storage.delete(name)
        default_storage.delete(ProductImage(file=name).thumbnail_name)
        originals.remove(name)


def rebuild_thumbnail(image: ProductImage) -> None:
    """Write a picture's thumbnail anew from its stored file. Raises ImageProcessingError and FileNotFoundError."""
    data = Path(image.file.path).read_bytes()
    derived = box_pool.derive(data, settings.DERIVATIVE_MAX_SIDE, settings.THUMBNAIL_SIDE)
    default_storage.delete(image.thumbnail_name)
    default_storage.save(image.thumbnail_name, ContentFile(derived.thumbnail))
