"""Find the file that a table means, although case, Unicode form, folders or the ZIP's encoding differ."""

from __future__ import annotations

import re
import struct
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_UTF8_FLAG = 0x800  # of a ZIP entry
_UNICODE_PATH = 0x7075  # the extra field in which Info-ZIP and WinZip keep the name as UTF-8
# What archivers write without the UTF-8 flag: DOS and Windows Explorer, programs on Windows, old Macs.
_ZIP_ENCODINGS = ("cp437", "cp850", "cp1252", "mac_roman")
# Folders and files that systems and network drives put beside people's own.
_SYSTEM_NAMES = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "@recycle",
    "#snapshot", "@recently-snapshot", "$recycle.bin", "recycler", "system volume information", "lost+found",
}  # fmt: skip


class AmbiguousNameError(LookupError):
    """Several files fit a name equally well. The arguments are their paths."""


def is_address(reference: str) -> bool:
    """Return whether an image is named by an http or https address."""
    return _ADDRESS.match(reference) is not None


def is_hidden(name: str) -> bool:
    """Return whether a folder or file is hidden, or one that a system made."""
    return (name.startswith(".") and name not in {".", ".."}) or name.lower() in _SYSTEM_NAMES


class FileIndex:
    """The files of a folder or ZIP by all their names, to find one whose exact path is not there.

    ``paths`` are pairs of a path with slashes and a name for it. One file may have several paths.
    """

    def __init__(self, paths: Iterable[tuple[str, str]]) -> None:
        self._by_last_part: dict[str, dict[tuple[str, ...], set[str]]] = defaultdict(lambda: defaultdict(set))
        for path, name in paths:
            parts = _parts(path)
            if parts:
                self._by_last_part[parts[-1]][parts].add(name)
        self._taken: dict[str, str] = {}

    def find(self, reference: str, folder: str = "") -> str | None:
        """Return the name of the file that ``reference`` means, or None.

        The file that shares most folders with the reference is taken. Raises AmbiguousNameError.
        """
        for candidate in _spellings(reference):
            if (found := self._closest((*_parts(folder), *_parts(candidate)))) is not None:
                return found
        return None

    def find_address(self, address: str) -> str | None:
        """Return the name of the file that holds the image of an http address, by the end of its path, or None.

        A file stands for one address only. Another address that ends alike is another image.
        """
        split = urlsplit(address)
        try:
            found = self.find(unquote(split.path))
        except AmbiguousNameError:
            return None
        place = f"{split.netloc}{split.path}"
        return found if found is not None and self._taken.setdefault(found, place) == place else None

    def _closest(self, wanted: tuple[str, ...]) -> str | None:
        by_path = self._by_last_part.get(wanted[-1]) if wanted else None
        if not by_path:
            return None
        shared = {parts: _shared_end(parts, wanted) for parts in by_path}
        most = max(shared.values())
        # Of those, the one with the fewest further folders: ``a.jpg`` before ``old/a.jpg``.
        rest = min(len(parts) for parts in by_path if shared[parts] == most)
        names = {
            name
            for parts, own_names in by_path.items()
            if shared[parts] == most and len(parts) == rest
            for name in own_names
        }
        if len(names) > 1:
            raise AmbiguousNameError(*sorted(names))
        return names.pop()


def entry_names(entry: zipfile.ZipInfo) -> list[str]:
    """Return the names that a ZIP entry may have, the likeliest first.

    A name without the UTF-8 flag is in the encoding of the machine that packed it, which the ZIP does not name.
    """
    names = [entry.filename]
    if not entry.flag_bits & _UTF8_FLAG and not entry.filename.isascii():
        raw = entry.filename.encode("cp437")  # as zipfile decoded it
        if (told := _unicode_path(entry.extra, raw)) is not None:
            names = [told]
        elif (text := _decode(raw, "utf-8")) is not None:
            names = [text]
        else:
            decoded = [text for encoding in _ZIP_ENCODINGS if (text := _decode(raw, encoding)) is not None]
            names = sorted(dict.fromkeys(decoded), key=_latin_letters, reverse=True)
    return [name.replace("\\", "/") for name in names]


def normalize(name: str) -> str:
    """Return a name in the Unicode form in which it is typed. Files of a Mac have another one."""
    return unicodedata.normalize("NFC", name)


def _parts(path: str) -> tuple[str, ...]:
    folded = unicodedata.normalize("NFC", path.replace("\\", "/")).casefold()
    parts = (part.strip() for part in folded.split("/"))
    return tuple(unicodedata.normalize("NFC", part) for part in parts if part not in {"", "."})


def _spellings(reference: str) -> Iterator[str]:
    """Yield a reference and what it may mean if it comes from an address: without query, with decoded characters."""
    yield reference
    if "%" in reference:
        yield unquote(reference)
    if "?" in reference:
        yield unquote(reference.partition("?")[0])


def _shared_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _decode(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _latin_letters(text: str) -> int:
    return sum(unicodedata.name(character, "").startswith("LATIN") for character in text if character > "\x7f")


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in the Unicode path extra field, if it belongs to this name."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and struct.unpack_from("<I", field, 1)[0] == zlib.crc32(raw):
            return _decode(field[5:], "utf-8")
    return None
