"""Read the parts of a PNG that Pillow does not read, or reads too strictly: bit depth and colour space."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gpu.imaging import profiles


@dataclass(frozen=True, slots=True)
class Header:
    """What a PNG's header says: bits of a level, and the colour type (0, 2, 3, 4 or 6)."""

    bits: int
    colour_type: int

    @property
    def is_grey(self) -> bool:
        return self.colour_type in {0, 4}


_START = 8
_COLOUR_CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")


def read_header(data: bytes) -> Header:
    """Return the header of a PNG."""
    return Header(*data[24:26]) if len(data) > 26 else Header(8, 2)


def without_colour_chunks(data: bytes) -> bytes:
    """Return a PNG without the chunks about colours, which are read here.

    Pillow refuses a whole image for one of them that is broken. It reads the others no further.
    """
    kept, start = [], 0
    for name, at, end in _chunks(data):
        if name in _COLOUR_CHUNKS:
            kept.append(data[start:at])
            start = end
    return b"".join([*kept, data[start:]]) if kept else data


def named_profile(data: bytes, space: profiles.Space) -> bytes | None:
    """Return the profile of a PNG by the first chunk that can be read, in the order of the standard.

    Source: PNG, third edition, 4.3 and 11.3.2.
    """
    chunks: dict[bytes, bytes] = {}
    for name, at, end in _chunks(data):
        if name in _COLOUR_CHUNKS and _crc_is_right(data, at, end):
            chunks.setdefault(name, data[at + 8 : end - 4])
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4 and cicp[2] == 0 and profiles.is_known(cicp[0], cicp[1]):
        return profiles.profile_of_code_points(cicp[0], cicp[1], space == "GRAY")
    if (profile := _inflated(chunks.get(b"iCCP", b""))) is not None and profiles.fits(profile, space):
        return profile
    if b"sRGB" in chunks:
        return None
    return _profile_of_numbers(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""), space)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each whole chunk before the pixels."""
    at = _START
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name in {b"IDAT", b"IEND"} or end > len(data):
            return
        yield name, at, end
        at = end


def _crc_is_right(data: bytes, at: int, end: int) -> bool:
    return zlib.crc32(data[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _inflated(chunk: bytes) -> bytes | None:
    """Return the profile in an iCCP chunk, or None if it is broken or too large."""
    _name, _zero, rest = chunk.partition(b"\0")
    if rest[:1] != b"\0":  # the only method
        return None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], profiles.MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _profile_of_numbers(gama: bytes, chrm: bytes, space: profiles.Space) -> bytes | None:
    """Return the profile of a gamma and primaries. None for sRGB's and for impossible ones."""
    gamma = 0.0
    if len(gama) == 4 and (stored := int.from_bytes(gama, "big")):
        gamma = 100_000 / stored
    if not 0.2 < gamma < 5:
        gamma = 0.0
    is_srgb_gamma = not gamma or abs(gamma - profiles.SRGB_GAMMA) < 0.03
    curve = profiles.srgb if is_srgb_gamma else profiles.power(gamma)
    if space == "GRAY":
        return None if is_srgb_gamma else profiles.grey_profile(curve)
    primaries = profiles.SRGB_PRIMARIES
    if len(chrm) == 32:
        a, b, c, d, e, f, g, h = (value / 100_000 for value in struct.unpack(">8I", chrm))
        primaries = (a, b, c, d, e, f, g, h)
    is_srgb = all(abs(x - y) < 0.003 for x, y in zip(primaries, profiles.SRGB_PRIMARIES, strict=True))
    if is_srgb and is_srgb_gamma:
        return None
    try:
        return profiles.rgb_profile(primaries, curve)
    except ValueError:
        return None if is_srgb_gamma else profiles.rgb_profile(profiles.SRGB_PRIMARIES, curve)


def own_level(stored: object, header: Header) -> int | tuple[int, ...] | None:
    """Return the transparent level or colour in the levels that Pillow decodes to. None if it is unusable.

    A grey level of 16 bits stays, colours of 16 bits become 8, and fewer bits are scaled up to 8.
    """
    if isinstance(stored, tuple):
        return tuple(int(level) >> 8 if header.bits == 16 else int(level) & 0xFF for level in stored)
    if not isinstance(stored, int):
        return None
    if header.bits in {1, 16}:  # Pillow has scaled the one bit
        return stored
    full = (1 << header.bits) - 1
    return (stored & full) * 255 // full
