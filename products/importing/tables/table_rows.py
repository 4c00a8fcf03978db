"""Turn the rows of a table into rows of an import, as the mapping of its columns says."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from core.spreadsheets.reader import Table, TableRow
from core.spreadsheets.sheets import Mark
from core.spreadsheets.writer import unescape_formula
from products.importing.row import Row
from products.importing.tables.columns import ID_COLUMN
from products.importing.tables.drafts import Draft
from products.importing.tables.identity import Key, KeyProfile, first_filled, is_empty, restore
from products.importing.tables.mapping import ColumnMapping
from products.importing.tables.references import WORKBOOK_PREFIX, split_references, unique
from products.importing.tables.row_groups import grouped
from products.importing.tables.words import parse_boolean
from products.models import Product
from products.prices import parse_price
from products.validation import MAX_DESCRIPTION_LENGTH, TEXT_FIELDS, is_encodable, normalize_field, validate_product

# A table may say these in words that no column can hold. Then they stay attributes.
_OPTIONAL_FIELDS = ("gtin", "mpn", "brand", "currency", "price")
_TEXT_ATTRIBUTE = re.compile(r"(?:^|,)([\w-]+)=")


class TableReader:
    """Read a table's rows. It is read twice: damage to keys shows only in all of them together."""

    def __init__(self, table: Table, mapping: ColumnMapping) -> None:
        self.table = table
        self.mapping = mapping
        self.profiles = {index: KeyProfile() for index in mapping.keys}
        self.key_index: int | None = None

    def rows(self, *, folder: str = "", names: Collection[str] = ()) -> Iterator[Row]:
        """Yield the rows. Images are relative to ``folder``, or to the folder that contains all of ``names``."""
        self._survey()
        common = posixpath.commonpath([posixpath.dirname(name) for name in names if not name.startswith("/")] or [""])
        in_common = {posixpath.relpath(name, common) for name in names if name.startswith(f"{common}/")} - {*names}
        for draft in grouped(map(self._draft, self.table.read()), self.mapping, self.cell):
            self._finish(draft)
            is_in_common = any(posixpath.normpath(image.replace("\\", "/")) in in_common for image in draft.images)
            texts: dict[str, Any] = {name: draft.texts.get(name, "") for name in (*TEXT_FIELDS, "price")}
            texts["sku"] = draft.key.text
            yield Row(
                draft.number,
                images=unique(draft.images),
                folder=common if is_in_common else folder,
                **texts,
                is_historical=draft.is_historical,
                attributes={name: text for name, text in draft.attributes.items() if text},
                product_id=draft.product_id,
                problem=draft.problem,
                passed_over=draft.passed_over,
                notes=tuple(draft.notes),
                raw=draft.raw,
            )

    def cell(self, draft: Draft, column: str) -> str:
        """Return a draft's text in a column of this name, or ""."""
        return next((text for i in self.mapping.find([column]) if (text := self._text(draft.values, i))), "")

    def _survey(self) -> None:
        if not self.profiles or self.mapping.is_own:
            self.key_index = next(iter(self.profiles), None)
            return
        for row in self.table.read():
            if row.problem:
                continue
            for index, profile in self.profiles.items():
                profile.add(row.values[index])
        self.key_index = first_filled(self.profiles.items())
        if self.key_index is None:
            self.key_index = self.mapping.keys[0]

    def _draft(self, row: TableRow) -> Draft:
        draft = Draft(row.number, row.values, raw=row.raw)
        draft.problem = row.problem or self._problem(row)
        if draft.problem:
            draft.values = ()
            return draft
        mapping, values = self.mapping, row.values
        for name, indexes in mapping.chains.items():
            draft.texts[name] = next((text for i in indexes if (text := self._text(values, i))), "")
        draft.attributes = {name: self._text(values, index) for index, name in mapping.attributes.items()}
        draft.images = [one for i in mapping.images for one in self._references(values, i)]
        draft.images += [f"{WORKBOOK_PREFIX}{part}" for part in row.pictures]
        draft.product_id = next((values[i] for i, column in enumerate(mapping.columns) if column == ID_COLUMN), "")
        draft.options = [(self._text(values, name), self._text(values, value)) for name, value in mapping.pairs]
        draft.read_options()
        self._read_lists(draft)
        self._read_historical(draft)
        self._read_key(draft, row)
        for index, mark in row.marks.items():
            self._check_mark(draft, index, mark)
        return draft

    def _problem(self, row: TableRow) -> str:
        if any("\x00" in text for text in row.raw):
            return _("the row contains a NUL character")
        return "" if all(map(is_encodable, row.raw)) else _("the row is not valid Unicode")

    def _text(self, values: Sequence[str], index: int) -> str:
        return unescape_formula(values[index]).strip() if index < len(values) else ""

    def _references(self, values: Sequence[str], index: int) -> list[str]:
        text = self._text(values, index)
        return split_references(text) if text and not is_empty(text) else []

    def _read_lists(self, draft: Draft) -> None:
        """Keep the first category of a list, or the deepest below a root, and the whole list as an attribute."""
        data = self.mapping.preset.data if self.mapping.preset is not None else {}
        for name, separator in data.get("lists", {}).items():
            text = draft.texts.get(name, "")
            parts = [part.replace("\\,", ",").strip() for part in re.split(rf"(?<!\\){re.escape(separator)}", text)]
            parts = [part for part in parts if part]
            if len(parts) > 1:
                column = self.mapping.columns[self.mapping.chains[name][0]]
                draft.attributes.setdefault(column, text)
            if parts:
                root = data.get("root", "")
                best = max(parts, key=lambda part: part.count("/")) if root else parts[0]
                draft.texts[name] = best.removeprefix(root) if root else best
        for column in data.get("texts", ()):
            text = self.cell(draft, column)
            starts = list(_TEXT_ATTRIBUTE.finditer(text))
            ends = [start.start() for start in starts[1:]] + [len(text)]
            for start, end in zip(starts, ends, strict=False):
                value = text[start.end() : end]
                draft.attributes.setdefault(start[1], value.strip().strip('"'))

    def _read_historical(self, draft: Draft) -> None:
        text = draft.texts.pop("is_historical", "")
        if text:
            draft.is_historical = parse_boolean(text)
            if draft.is_historical is None:
                draft.problem = _("is_historical is %r; write true or false, or leave it empty") % text.lower()

    def _read_key(self, draft: Draft, row: TableRow) -> None:
        """Read the key. A row without one stays: others of its group may have it."""
        index = self.key_index
        text = "" if index is None else row.values[index]
        if index is None:
            return
        if self.mapping.is_own:
            draft.key = Key(self._text(row.values, index))
        else:
            plain = unescape_formula(text) if not text.startswith('="') else text
            draft.key = restore(plain, row.marks.get(index), self.profiles[index])

    def _check_mark(self, draft: Draft, index: int, mark: Mark) -> None:
        role = self.mapping.roles[index] if index < len(self.mapping.roles) else ""
        if index == self.key_index or role not in ("name", "category", "image"):
            return
        column = self.mapping.columns[index]
        if mark is Mark.FORMULA:
            text = _("%s is a formula whose value is not stored; open the file in a spreadsheet program and save it")
            draft.problem = draft.problem or text % column
        elif mark is Mark.ERROR and role == "image":
            draft.problem = draft.problem or _("%s is the error of a formula") % column
        elif mark is Mark.ERROR:
            draft.texts[role] = ""
            draft.notes.append(_("%s is the error of a formula and was left out.") % column)

    def _finish(self, draft: Draft) -> None:
        """Check the key, and leave out what a shop writes and no product can hold."""
        if not draft.problem and not draft.passed_over:
            if draft.key.problem:
                draft.problem = _("the SKU cannot be known: %s") % draft.key.problem
            elif not draft.key.text:
                draft.problem = self._missing_key(draft)
        if not self.mapping.is_own:
            self._leave_out_unreadable(draft)
            self._leave_out_long_description(draft)

    def _missing_key(self, draft: Draft) -> str:
        if draft.product_id or (self.mapping.is_own and draft.texts.get("name")):
            return ""
        index = self.key_index
        if index is not None and not self.profiles[index].filled and draft.texts.get("name"):
            return ""  # the whole catalogue has no SKUs, and says so by an empty column
        column = self.mapping.columns[index] if index is not None else "sku"
        return _("the row has no SKU in its column %s") % column

    def _leave_out_unreadable(self, draft: Draft) -> None:
        if "gtin" in draft.texts:
            key = restore(draft.texts["gtin"])
            if key.problem:
                draft.notes.append(_("The GTIN was left out: %s.") % key.problem)
            draft.texts["gtin"] = key.text
        for name in _OPTIONAL_FIELDS:
            text = draft.texts.get(name, "")
            if not text or self._has_own_name(name):
                continue
            try:
                if name == "price":
                    price = parse_price(text)
                    own = normalize_field("currency", draft.texts.get("currency", ""))
                    if price.currency and own not in ("", price.currency):
                        draft.texts["currency"] = price.currency
                else:
                    validate_product(Product(**{name: normalize_field(name, text)}))
            except ValidationError as error:
                draft.texts[name] = ""
                draft.attributes.setdefault(self.mapping.columns[self.mapping.chains[name][0]], text)
                reason = " ".join(error.messages)
                draft.notes.append(_("%(field)s became an attribute: %(reason)s") % {"field": name, "reason": reason})

    def _leave_out_long_description(self, draft: Draft) -> None:
        """Leave out a shop's web page, and say so. The product without it is still one.

        A column ``description`` was written for CatalogMatch. Beyond the limit it refuses the row, as any other text.
        """
        text, limit = draft.texts.get("description", ""), MAX_DESCRIPTION_LENGTH
        if len(text) <= limit or self._has_own_name("description"):
            return
        draft.texts["description"] = ""
        note = _("The description was left out: it has %(length)s characters, and the limit is %(limit)s.")
        draft.notes.append(note % {"length": f"{len(text):,}", "limit": f"{limit:,}"})

    def _has_own_name(self, field: str) -> bool:
        """Return whether the table calls the field as CatalogMatch does."""
        return any(self.mapping.columns[i] == field for i in self.mapping.chains.get(field, ()))
