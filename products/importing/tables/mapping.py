"""Recognise what the columns of a table mean: by the tool that wrote it, by words, and as a user chose."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from core.errors import UnreadableFileError
from core.spreadsheets.headers import missing_columns_message
from core.spreadsheets.reader import check_repeated_columns
from products.importing.tables.columns import COLUMNS, ID_COLUMN, attribute_name, is_note, is_quoted_attribute
from products.importing.tables.references import looks_like_image
from products.importing.tables.words import image_rank, normalize, ranks, spellings

FIELDS = COLUMNS
ATTRIBUTE, NOTHING = "attribute", "nothing"
ROLES = (*FIELDS, ATTRIBUTE, NOTHING)
NONE = "none"  # instead of a preset: only words count
# In this order a column goes to the first field that its words name and that has no better column.
_BY_WORDS = ("sku", "gtin", "mpn", "name", "category", "description", "brand", "price", "currency", "is_historical")


class NoKeyError(UnreadableFileError):
    """No column is recognised as the one that tells products apart. The user can name it."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known about the exports of one tool. ``data`` is its entry in ``presets.json``."""

    name: str
    data: dict[str, Any]

    @property
    def label(self) -> str:
        return str(self.data["label"])

    @property
    def rows(self) -> dict[str, Any]:
        """Return how rows belong together."""
        return dict(self.data.get("rows", {}))


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """What each column of a table means.

    ``roles``: by index. ``chains``: the columns of each field; the first that is filled counts. ``keys``: columns that
    may tell products apart, the best first; of those, the first that is filled anywhere is the SKU. ``images``: columns
    of image references. ``attributes``: names by index. ``pairs``: columns of a name and a value each. ``is_own``:
    the table is an export of CatalogMatch, whose texts are read as they are.
    """

    columns: tuple[str, ...]
    roles: tuple[str, ...]
    chains: dict[str, tuple[int, ...]]
    keys: tuple[int, ...]
    images: tuple[int, ...]
    attributes: dict[int, str]
    pairs: tuple[tuple[int, int], ...] = ()
    preset: Preset | None = None
    is_own: bool = False
    chosen: dict[str, str] = field(default_factory=dict)

    def find(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the columns of these names, in their order."""
        return tuple(i for name in names for i, column in enumerate(self.columns) if _matches(name, column))


@cache
def presets() -> dict[str, Preset]:
    """Return the known tools by name."""
    data = json.loads((Path(__file__).parent / "presets.json").read_text(encoding="utf-8"))
    return {name: Preset(name, entry) for name, entry in data.items()}


def fingerprint(columns: Sequence[str]) -> str:
    """Return what is the same for all files of one header. Columns in parentheses do not count."""
    header = [column for column in columns if not is_note(column)]
    return hashlib.sha256(json.dumps(header).encode()).hexdigest()


def score(cells: Sequence[str]) -> int:
    """Return how many columns a row would name if it were a header."""
    short = [cell for cell in cells if cell and len(cell) <= 120]
    if ID_COLUMN in short:
        return len(short)
    fields: set[str] = set()
    images = 0
    for cell in short:
        for spelling, _language in spellings(cell):
            if cell.lower() in COLUMNS or image_rank(spelling) is not None:
                fields.add(cell.lower() if cell.lower() in COLUMNS else "image")
                images += 1
                break
            found = {name for name in _BY_WORDS if spelling in ranks(name)}
            if found:
                fields |= found if not found & fields else set()
                break
    return len(fields)


def recognise(
    columns: Sequence[str],
    samples: Sequence[Sequence[str]] = (),
    *,
    preset: str = "",
    chosen: Mapping[str, str] | None = None,
) -> ColumnMapping:
    """Return what the columns mean.

    ``samples``: values of the first rows. ``preset``: the name of the tool, by default found by the header.
    ``chosen``: roles of columns that a user chose, by the column's name. Raises UnreadableFileError.
    """
    return _Recognition(columns, samples, _preset(columns, preset), chosen or {}).mapping()


def require_key(mapping: ColumnMapping, file: str, *, needs_images: bool, hint: str) -> None:
    """Raise NoKeyError if nothing tells the products apart, or if ``needs_images`` and nothing names images."""
    missing = [] if mapping.keys or mapping.is_own else ["sku"]
    if needs_images and not mapping.images:
        missing.append("image")
    if missing:
        text = missing_columns_message(file, missing, mapping.columns)
        if "sku" in missing:
            text = f"{text} {_('Without a SKU or an article number, products cannot be told apart.')}"
        raise NoKeyError(f"{text} {hint}")


def parse_choices(pairs: Iterable[str], columns: Sequence[str]) -> dict[str, str]:
    """Return the choices of ``COLUMN=FIELD`` pairs. Raises UnreadableFileError."""
    chosen = {}
    for pair in pairs:
        name, mark, role = pair.rpartition("=")
        role = role.strip().lower()
        if not mark or role not in ROLES:
            text = _("%(pair)s is not COLUMN=FIELD. A field is one of %(fields)s.")
            raise UnreadableFileError(text % {"pair": pair, "fields": ", ".join(ROLES)})
        column = next((one for one in columns if one == name), None)
        column = column or next((one for one in columns if normalize(one) == normalize(name)), None)
        if column is None:
            text = _("The table has no column %(column)s. It has: %(columns)s.")
            raise UnreadableFileError(text % {"column": name, "columns": ", ".join(columns)[:300]})
        chosen[column] = role
    return chosen


def _preset(columns: Sequence[str], name: str) -> Preset | None:
    if name in presets():
        return presets()[name]
    if name and name != NONE:
        text = _("There is no preset %(name)s. There are: %(names)s.")
        raise UnreadableFileError(text % {"name": name, "names": ", ".join((*presets(), NONE))})
    if name == NONE or ID_COLUMN in columns:
        return None
    words = {spelling for column in columns for spelling, _language in spellings(column)}
    for preset in presets().values():
        if all(any(normalize(one) in words for one in needs) for needs in preset.data["needs"]):
            return preset
    return None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return what matches the words of a preset's column, where # is a number and * is anything."""
    parts = [
        r"\d+" if part == "#" else ".*" if part == "*" else re.escape(normalize(part))
        for part in re.split(r"([#*])", name)
        if part and (part in "#*" or normalize(part))
    ]
    return re.compile(" ?".join(parts))


def _matches(name: str, column: str) -> bool:
    if "#" not in name and "*" not in name:
        wanted = normalize(name)
        return any(spelling == wanted for spelling, _language in spellings(column))
    return _pattern(name).fullmatch(normalize(column)) is not None


class _Recognition:
    """Assign each column of one table."""

    def __init__(
        self,
        columns: Sequence[str],
        samples: Sequence[Sequence[str]],
        preset: Preset | None,
        chosen: Mapping[str, str],
    ) -> None:
        self.columns = tuple(columns)
        self.samples = samples
        self.preset = preset
        self.chosen = {column: role for column, role in chosen.items() if column in columns and role in ROLES}
        self.is_own = ID_COLUMN in columns
        self.free = [i for i, column in enumerate(columns) if column and not is_note(column) and column != ID_COLUMN]
        self.chains: dict[str, tuple[int, ...]] = {}
        self.keys: tuple[int, ...] = ()
        self.images: list[int] = []
        self.pairs: list[tuple[int, int]] = []
        self.ignored: set[int] = set()
        self.kept: set[int] = set()  # columns that fill a field and stay an attribute

    def mapping(self) -> ColumnMapping:
        self._take_chosen()
        self._take_own_names()
        if not self.is_own:
            if self.preset is not None:
                self._take_preset(self.preset)
            self._take_words()
            self._take_images()
        elif "sku" in self.chains:
            self.keys = self.chains["sku"]
        roles, attributes = self._roles()
        return ColumnMapping(
            self.columns, roles, self.chains, self.keys, tuple(self.images), attributes, tuple(self.pairs),
            self.preset, self.is_own, self.chosen,
        )  # fmt: skip

    def _take(self, name: str, indexes: Iterable[int]) -> None:
        taken = tuple(i for i in indexes if i in self.free)
        self.free = [i for i in self.free if i not in taken]
        self.chains[name] = self.chains.get(name, ()) + taken

    def _take_chosen(self) -> None:
        for index in list(self.free):
            role = self.chosen.get(self.columns[index])
            if role == "image":
                self.images.append(index)
                self.free.remove(index)
            elif role == NOTHING:
                self.ignored.add(index)
                self.free.remove(index)
            elif role == ATTRIBUTE:
                self.free.remove(index)
            elif role:
                self._take(role, [index])
        self.free = [i for i in self.free if not is_quoted_attribute(self.columns[i])]
        self.keys = self.chains.get("sku", ())

    def _take_own_names(self) -> None:
        own = [self.columns[i].lower() for i in self.free if self.columns[i].lower() in COLUMNS]
        check_repeated_columns(_("The table"), [name for name in own if name != "image"])
        if self.preset is not None:
            return
        for index in list(self.free):
            name = self.columns[index].lower()
            if name == "image":
                self.images.append(index)
                self.free.remove(index)
            elif name in COLUMNS and name not in self.chains:
                if name == "price" and self.columns[index] != "price":
                    self.kept.add(index)  # as a shop writes it, "Price" may be more than an amount
                self._take(name, [index])
                if name == "sku":
                    self.keys = self.chains["sku"]

    def _take_preset(self, preset: Preset) -> None:
        data = preset.data
        for name_pattern, value_pattern in data.get("pairs", ()):
            for index in list(self.free):
                found = _pattern(name_pattern).fullmatch(normalize(self.columns[index]))
                number = re.search(r"\d+", self.columns[index])
                if found and number:
                    wanted = normalize(value_pattern.replace("#", number[0]))
                    value = next((i for i in self.free if normalize(self.columns[i]) == wanted), None)
                    if value is not None:
                        self.pairs.append((index, value))
                        self.free = [i for i in self.free if i not in (index, value)]
        for name, names in data["fields"].items():
            indexes = [i for one in names for i in self._in_language(one)]
            if name == "sku":
                if not self.keys:
                    self.keys = tuple(indexes)
                    self._take("sku", indexes[:1])
            elif name == "image":
                self.images += [i for i in indexes if i in self.free and i not in self.images]
                self.free = [i for i in self.free if i not in self.images]
            elif name == "small image":
                if not self.images:
                    self.images += [i for i in indexes if i in self.free][:1]
                    self.free = [i for i in self.free if i not in self.images]
            elif name not in self.chains:
                self._take(name, indexes)
        for pattern in data.get("nothing", ()):
            for index in list(self.free):
                if _matches(pattern, self.columns[index]):
                    self.ignored.add(index)
                    self.free.remove(index)

    def _in_language(self, name: str) -> list[int]:
        """Return the free columns of a name, the best language first. Later ones only fill gaps."""
        wanted, found = normalize(name), []
        for index in self.free:
            for spelling, language in spellings(self.columns[index]):
                if spelling == wanted:
                    found.append((_language_rank(language), index))
                    break
            else:
                localised = self.preset is not None and self.preset.data.get("localised")
                if localised and normalize(self.columns[index].split("-")[0]) == wanted:
                    found.append((9, index))
        return [index for _rank, index in sorted(found)]

    def _take_words(self) -> None:
        for name in _BY_WORDS:
            candidates = []
            for index in self.free:
                rank = self._rank(name, index)
                if rank is not None:
                    candidates.append((*rank, index))
            ordered = [candidate[-1] for candidate in sorted(candidates)]
            if name == "sku":
                if not self.keys and self.preset is None:
                    self.keys = tuple(ordered)
                    self._take("sku", ordered[:1])
                    if not ordered and "gtin" not in self.chains:
                        # Nothing else tells the products apart, but the number below the barcode does.
                        self.keys = tuple(i for i in self.free if self._rank("gtin", i) is not None)[:1]
            elif ordered and name not in self.chains:
                self._take(name, ordered[:1])
                if name in ("price", "currency") and self.preset is None:
                    self.kept.add(ordered[0])
        if not self.keys and "gtin" in self.chains:
            self.keys = self.chains["gtin"][:1]

    def _rank(self, name: str, index: int) -> tuple[int, int] | None:
        for spelling, language in spellings(self.columns[index]):
            if spelling in ranks(name):
                return ranks(name)[spelling], _language_rank(language)
        return None

    def _take_images(self) -> None:
        if self.preset is None:
            found = []
            for index in self.free:
                for spelling, language in spellings(self.columns[index]):
                    rank = image_rank(spelling)
                    if rank is not None and self._may_be_images(index):
                        found.append((rank, _language_rank(language) > 1, index))
                        break
            large = [index for rank, _language, index in sorted(found, key=lambda one: (one[0], one[2])) if rank < 9]
            small = [index for rank, _language, index in found if rank == 9]
            self.images += large or ([] if self.images else small[:1])
        by_value = self.preset is not None and self.preset.data.get("images by value")
        if by_value or not self.images:
            self.images += [i for i in self.free if i not in self.images and self._holds_images(i)]
        self.free = [i for i in self.free if i not in self.images]

    def _values(self, index: int) -> list[str]:
        return [row[index] for row in self.samples if index < len(row) and row[index]]

    def _may_be_images(self, index: int) -> bool:
        """Return whether the values do not speak against it: numbers and true or false are no file names."""
        values = self._values(index)
        return not values or not all(value.lower() in ("true", "false") for value in values)

    def _holds_images(self, index: int) -> bool:
        values = self._values(index)
        return bool(values) and all(map(looks_like_image, values))

    def _roles(self) -> tuple[tuple[str, ...], dict[int, str]]:
        roles = []
        attributes: dict[int, str] = {}
        by_index = {index: name for name, indexes in self.chains.items() for index in indexes}
        paired = {index for pair in self.pairs for index in pair}
        used: set[str] = set()
        for index, column in enumerate(self.columns):
            if index in self.images:
                roles.append("image")
                continue
            name = by_index.get(index)
            is_attribute = name is None and index not in self.ignored and index not in paired
            attribute = attribute_name(column) if self.is_own or is_attribute else column
            if is_attribute and attribute is None and column and not is_note(column):
                attribute = column  # the name of a field that another column fills
            if (is_attribute and attribute is not None) or index in self.kept:
                attributes[index] = _unused(column if attribute is None else attribute, used)
            roles.append(name or (ATTRIBUTE if index in attributes or index in paired else NOTHING))
        return tuple(roles), attributes


def _unused(name: str, used: set[str]) -> str:
    number, unused = 1, name
    while unused in used:
        number += 1
        unused = f"{name} {number}"
    used.add(unused)
    return unused


def _language_rank(language: str) -> int:
    own = settings.LANGUAGE_CODE[:2]
    return 0 if not language else 1 if language == own else 2 if language == "en" else 3
