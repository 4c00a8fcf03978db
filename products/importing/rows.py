"""Open what is imported: a table with its images, or the files of a folder or ZIP."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from django.utils.translation import gettext as _

from core.archives import ZIP_ERRORS, open_archive
from core.errors import UnreadableFileError
from core.spreadsheets.reader import Table, is_table, may_be_table, open_table, read_table
from products.importing.grouping import describe_views, products_of_files
from products.importing.image_sources import FolderSource, ImageSource, ZipSource, open_zip
from products.importing.row import Row
from products.importing.tables import mapping
from products.importing.tables.mapping import ColumnMapping
from products.importing.tables.table_rows import TableReader
from products.importing.workbook_images import WorkbookImages
from products.validation import is_encodable

SAMPLE_ROWS = 200
_SAMPLE_CHARACTERS = 4 * 2**20
_SAMPLE_LENGTH = 300  # characters kept of a value
_MAX_POSSIBLE_TABLES = 20
_HINT = "Name the column with --map COLUMN=sku, or rename it."


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user says about the columns of a table.

    ``preset``: the tool that wrote it, "" to find it. ``pairs``: COLUMN=FIELD. ``roles``: by column, for the columns
    of a table.
    """

    preset: str = ""
    pairs: Sequence[str] = ()
    roles: Callable[[Sequence[str]], Mapping[str, str]] = lambda _columns: {}


@dataclass(frozen=True, slots=True)
class ImportSource:
    """Rows and where their images are read from.

    ``images``: None if the table came without images. ``total``: number of rows, None if unknown in advance.
    ``columns``: the columns of ``Row.raw``. ``historical``: whether new products are historical if their row does not
    say. ``views``: which files became views of one product by their names, see ``grouping.describe_views``.
    ``mapping``: what the columns of a table mean. ``samples``: values of its first rows. ``note``: what was unclear
    about the table. ``problem``: why its rows cannot be read, until the user says more about the columns.
    """

    rows: Iterator[Row]
    total: int | None
    images: ImageSource | None
    columns: Sequence[str] = ()
    historical: bool = False
    views: dict[str, Any] = field(default_factory=dict)
    mapping: ColumnMapping | None = None
    samples: Sequence[Sequence[str]] = ()
    note: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An uploaded file. ``name`` is the user's name for it and never used as a path."""

    path: Path
    name: str


@contextmanager
def open_source(
    path: Path,
    *,
    images: Path | None = None,
    historical: bool = False,
    group: bool = True,
    choices: Choices = Choices(),
) -> Iterator[ImportSource]:
    """Open a table, or a folder or ZIP of images that may contain one table.

    Without a table, an image's file name is the SKU and name of its product, and its folder is the category.
    ``group``: whether files that are named after their view are images of one product.
    ``images``: the folder that a table's images are relative to, instead of the table's own folder.
    ``historical``: whether products are historical if their row does not say. Raises UnreadableFileError.
    """
    with ExitStack() as stack:
        if not path.exists():
            raise UnreadableFileError(_("There is no file or folder %s.") % path)
        if images is not None and not images.is_dir():
            raise UnreadableFileError(_("There is no folder %s for the images.") % images)
        open_tables = partial(_open_table, historical=historical, choices=choices, needs_images=True, hint=_HINT)
        if path.is_file() and may_be_table(path.name):
            table = stack.enter_context(open_table(path, score=mapping.score))
            workbook = stack.enter_context(open_zip(path)) if table.has_pictures else None
            yield open_tables(table, path.name, FolderSource(images or path.parent), workbook)
            return
        files: ImageSource
        if path.is_dir():
            files = FolderSource(path)
        elif zipfile.is_zipfile(path):
            files = stack.enter_context(open_zip(path))
        else:
            raise UnreadableFileError(
                _("%s is neither a CSV, an XLSX, an ODS, a ZIP nor a folder of images.") % path.name
            )
        if images is not None:
            text = _("--images is for a table. %s contains its own images.")
            raise UnreadableFileError(text % path.name)
        yield stack.enter_context(_open_files(files, path.name, historical, group, open_tables))


@contextmanager
def open_upload(
    table: StoredUpload | None,
    archive: StoredUpload | None,
    *,
    historical: bool = False,
    group: bool = True,
    choices: Choices = Choices(),
) -> Iterator[ImportSource]:
    """Open the files that a user sent: a table, a ZIP of images, or both.

    The ZIP may contain the table. A table's images are read only from the ZIP, where one folder may contain them all.
    A table that only changes products needs no images. Raises UnreadableFileError.
    """
    with ExitStack() as stack:
        images = stack.enter_context(open_zip(archive.path, archive.name)) if archive else None
        hint = _("Choose on the page what the columns are, or rename them.")
        open_tables = partial(_open_table, historical=historical, choices=choices, needs_images=False, hint=hint)
        if table is not None:
            opened = stack.enter_context(open_table(table.path, name=table.name, score=mapping.score))
            workbook = stack.enter_context(open_zip(table.path, table.name)) if opened.has_pictures else None
            yield open_tables(opened, table.name, images, workbook, names=images.names() if images else ())
        elif images is not None and archive is not None:
            yield stack.enter_context(_open_files(images, archive.name, historical, group, open_tables))
        else:
            raise UnreadableFileError(_("There is neither a table nor a ZIP."))


@contextmanager
def _open_files(
    files: ImageSource, name: str, historical: bool, group: bool, open_tables: Callable[..., ImportSource]
) -> Iterator[ImportSource]:
    """Open the one table among the files, or take every file as an image."""
    names = files.names()
    tables = [file_name for file_name in names if is_table(file_name)] or _possible_tables(files, names)
    if len(tables) > 1:
        text = _("%(file)s contains several tables (%(names)s). Import one of them by itself.")
        raise UnreadableFileError(text % {"file": name, "names": ", ".join(tables)})
    if not tables:
        rows, columns = _image_rows(names, group), ("image", "sku", "name", "category")
        yield ImportSource(rows, len(names), files, columns, historical, describe_views(names))
        return
    with files.open(tables[0]) as file:
        table = read_table(file, tables[0], score=mapping.score)
        workbook = _pictures_of(file, tables[0]) if table.has_pictures else None
        folder = str(PurePosixPath(tables[0]).parent)
        yield open_tables(table, tables[0], files, workbook, folder=folder)


def _possible_tables(files: ImageSource, names: Sequence[str]) -> list[str]:
    """Return the files that are tables by their content, such as feed.txt but not readme.txt."""
    possible = [name for name in names if may_be_table(name) and not name.lower().endswith((".htm", ".html"))]
    found = []
    for name in possible if len(possible) <= _MAX_POSSIBLE_TABLES else ():
        try:
            with files.open(name) as file:
                columns = mapping.recognise(read_table(file, name, score=mapping.score).columns)
        except UnreadableFileError:
            continue
        if columns.keys and (columns.images or "name" in columns.chains):
            found.append(name)
    return found


def _pictures_of(file: IO[bytes], name: str) -> ZipSource:
    try:
        return ZipSource(open_archive(file))
    except ZIP_ERRORS as error:
        text = _("%(file)s is not a readable ZIP: %(reason)s.") % {"file": name, "reason": error}
        raise UnreadableFileError(text) from error


def _open_table(
    table: Table,
    name: str,
    images: ImageSource | None,
    workbook: ZipSource | None,
    *,
    historical: bool,
    choices: Choices,
    needs_images: bool,
    hint: str,
    folder: str = "",
    names: Collection[str] = (),
) -> ImportSource:
    """Return the rows of a table, with its columns recognised or chosen."""
    samples = _samples(table)
    roles = {**choices.roles(table.columns), **mapping.parse_choices(choices.pairs, table.columns)}
    columns = mapping.recognise(table.columns, samples, preset=choices.preset, chosen=roles)
    try:
        mapping.require_key(columns, name, needs_images=needs_images and workbook is None, hint=hint)
        problem = ""
    except mapping.NoKeyError as error:
        problem = str(error)
    rows = _rows_unless(problem, TableReader(table, columns).rows(folder=folder, names=names))
    if workbook is not None:
        images = WorkbookImages(images, workbook)
    return ImportSource(
        rows, table.total, images, table.columns, historical,
        mapping=columns, samples=samples, note=table.note, problem=problem,
    )  # fmt: skip


def _rows_unless(problem: str, rows: Iterator[Row]) -> Iterator[Row]:
    if problem:
        raise UnreadableFileError(problem)
    yield from rows


def _samples(table: Table) -> list[list[str]]:
    samples: list[list[str]] = []
    size = 0
    for row in table.read():
        if not row.problem:
            samples.append([value[:_SAMPLE_LENGTH] for value in row.values])
            size += sum(map(len, samples[-1])) + len(row.values)
        if len(samples) == SAMPLE_ROWS or size > _SAMPLE_CHARACTERS:
            break
    return samples


def _image_rows(names: list[str], group: bool) -> Iterator[Row]:
    for number, file in enumerate(products_of_files(names, group=group), start=1):
        name = file.name
        if not is_encodable(name):
            printable = name.encode(errors="replace").decode()
            yield Row(number, images=(printable,), problem=_("the file name is not valid Unicode"), raw=(printable,))
            continue
        yield Row(
            number,
            images=(name,),
            sku=file.sku,
            name=file.sku,
            category=file.category,
            category_from_path=True,
            problem="" if _is_valid_text(name) else _("the file's name is not valid Unicode; rename the file"),
            raw=(name, file.sku, file.sku, file.category),
        )


def _is_valid_text(text: str) -> bool:
    """Return whether UTF-8 can write the text, which excludes names of files in other encodings."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
