"""Find the images in a sheet of a workbook: over the cells, in the cells, and those of WPS Office."""

from __future__ import annotations

import posixpath
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar
from xml.etree import ElementTree  # nosec B405 # expat limits what entities may expand to

MAX_PART_BYTES = 16 * 2**20  # of a part that places images
_RELATION = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_DOCUMENT = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"
T = TypeVar("T")
_BLIP = "{http://schemas.openxmlformats.org/drawingml/2006/main}blip"


class Pictures:
    """The images of a sheet, as names of parts of the workbook."""

    def __init__(self, archive: zipfile.ZipFile, sheet_path: str) -> None:
        self.archive = archive
        self.sheet_path = sheet_path.lstrip("/")
        self.names = set(archive.namelist())

    @property
    def may_exist(self) -> bool:
        """Return whether the workbook has any images."""
        return any(name.startswith("xl/media/") for name in self.names)

    def of_row(self, number: int) -> Sequence[str]:
        """Return the images that begin over a cell of the row. The first row is 1."""
        return self._by_row.get(number, ())

    def of_cell(self, reference: str) -> str:
        """Return the image that a cell shows, by its formula's id or its value metadata ("vm1"), or ""."""
        if reference.startswith("vm") and reference[2:].isdecimal():
            return self._by_metadata.get(int(reference[2:]), "")
        return self._by_id.get(reference, "")

    @cached_property
    def _by_row(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = defaultdict(list)
        if not self.may_exist:
            return found
        for drawing, kind in self._relations(self.sheet_path).values():
            if not kind.endswith("/drawing"):
                continue
            relations = self._relations(drawing)
            for anchor in self._parse(drawing):
                row = anchor.findtext(f"{_DRAWING}from/{_DRAWING}row", "")
                for blip in anchor.iter(_BLIP):
                    part, _kind = relations.get(blip.get(f"{_DOCUMENT}embed", ""), ("", ""))
                    if row.strip().isdecimal() and part in self.names:
                        found[int(row) + 1].append(part)
        return found

    @cached_property
    def _by_id(self) -> dict[str, str]:
        """The images of WPS Office, whose cells are =DISPIMG("ID_…")."""
        relations = self._relations("xl/cellimages.xml")
        found = {}
        for image in self._parse("xl/cellimages.xml"):
            named = next((one for one in image.iter() if one.tag.endswith("}cNvPr")), None)
            blip = next(image.iter(_BLIP), None)
            if named is not None and blip is not None:
                part, _kind = relations.get(blip.get(f"{_DOCUMENT}embed", ""), ("", ""))
                if part in self.names:
                    found[named.get("name", "")] = part
        return found

    @cached_property
    def _by_metadata(self) -> dict[int, str]:
        """The images that Excel places in cells, by the number in the cell's attribute ``vm``."""
        metadata = self._parse("xl/metadata.xml")
        rich = [
            int(value.get("i", "-1"))
            for block in _children(metadata, "futureMetadata")
            if block.get("name") == "XLRICHVALUE"
            for value in block.iter()
            if value.tag.endswith("}rvb")
        ]
        values = [
            int(record.get("v", "-1"))
            for block in _children(metadata, "valueMetadata")
            for record in block.iter()
            if record.tag.endswith("}rc")
        ]
        first_values = [
            next((int(one.text or -1) for one in value if (one.text or "").isdecimal()), -1)
            for value in self._parse("xl/richData/rdrichvalue.xml")
        ]
        path = "xl/richData/richValueRel.xml"
        relations = self._relations(path)
        parts = [relations.get(one.get(f"{_DOCUMENT}id", ""), ("", ""))[0] for one in self._parse(path)]
        found = {}
        for number, value in enumerate(values, start=1):
            index = _at(rich, value, -1)
            part = _at(parts, _at(first_values, index, -1), "")
            if part in self.names:
                found[number] = part
        return found

    def _relations(self, path: str) -> dict[str, tuple[str, str]]:
        """Return the parts that a part refers to with the kind of the relation, by id."""
        folder, name = posixpath.split(path)
        found = {}
        for relation in self._parse(f"{folder}/_rels/{name}.rels"):
            target = relation.get("Target", "")
            if relation.tag == _RELATION and relation.get("TargetMode") != "External":
                part = posixpath.normpath(posixpath.join(folder, target)).lstrip("/")
                found[relation.get("Id", "")] = (part, relation.get("Type", ""))
        return found

    def _parse(self, part: str) -> ElementTree.Element:
        """Return a part's root, which is empty if there is no such part."""
        if part not in self.names or self.archive.getinfo(part).file_size > MAX_PART_BYTES:
            return ElementTree.Element("none")
        # Expat limits what entities may expand to, and the part is not large.
        return ElementTree.fromstring(self.archive.read(part))  # noqa: S314 # nosec B314


def _children(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in root if child.tag.endswith(f"}}{name}")]


def _at(values: Sequence[T], index: int, default: T) -> T:
    return values[index] if 0 <= index < len(values) else default
