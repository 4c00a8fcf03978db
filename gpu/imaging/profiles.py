"""Build ICC profiles for colour spaces that a file names by numbers, as in PNG, AVIF and HEIC.

Sources: ICC.1:2010 (profile format), ITU-T H.273 (the code points).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

Space = Literal["RGB", "GRAY", "CMYK"]
Chromaticities = tuple[float, float, float, float, float, float, float, float]  # white, red, green, blue: x, y each
Floats = npt.NDArray[np.float64]
Curve = Callable[[Floats], Floats]

D65 = (0.3127, 0.3290)
SRGB_PRIMARIES: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SRGB_GAMMA = 2.2

# H.273, table 2.
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
MAX_PROFILE_BYTES = 8 * 2**20  # the largest CMYK profiles of press makers have 3
_CLASSES = {b"mntr", b"scnr", b"prtr", b"spac"}
_CURVE_POINTS = 1024
# The brightness of white in HDR images, in cd/m² (ITU-R BT.2408). What is brighter becomes white.
_HDR_WHITE = 203.0

# The Bradford matrix, by which colours are adapted to the white of ICC profiles.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


def fits(profile: bytes, space: Space) -> bool:
    """Return whether the header is whole and speaks of this space."""
    return (
        128 < len(profile) <= MAX_PROFILE_BYTES
        and int.from_bytes(profile[:4], "big") <= len(profile)
        and profile[12:16] in _CLASSES
        and profile[16:20].strip() == space.encode()
        and profile[36:40] == b"acsp"
    )


def rgb_profile(primaries: Chromaticities, curve: Curve) -> bytes:
    """Return an RGB profile. Raises ValueError for impossible primaries."""
    white, *colours = (_xyz(*primaries[i : i + 2]) for i in range(0, 8, 2))
    matrix = np.stack(colours, axis=1)
    try:
        matrix = matrix * np.linalg.solve(matrix, white)
    except np.linalg.LinAlgError as error:
        raise ValueError("the primaries are on one line") from error
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    columns = (np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ matrix).T
    if not np.isfinite(columns).all() or np.abs(columns).max() > 4:
        raise ValueError("the primaries are no colours")
    trc = _curve(curve)
    tags = {name: _xyz_tag(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), trc))


def grey_profile(curve: Curve) -> bytes:
    """Return a profile of greys."""
    return _profile(b"GRAY", {b"kTRC": _curve(curve)})


def power(gamma: float) -> Curve:
    """Return the curve of a gamma."""
    return lambda level: np.asarray(level**gamma)


def srgb(level: Floats) -> Floats:
    """Return linear light, 0 to 1, of sRGB's levels."""
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _pq(level: Floats) -> Floats:
    """Return linear light of levels of SMPTE ST 2084 (H.273, equation 16)."""
    root = level ** (1 / 78.84375)
    light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return np.minimum(light * 10_000 / _HDR_WHITE, 1)


def _hlg(level: Floats) -> Floats:
    """Return linear light of levels of ARIB STD-B67 on a screen of 1,000 cd/m² (ITU-R BT.2100)."""
    scene = np.where(level <= 0.5, level**2 / 3, (np.exp((level - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return np.minimum(scene**1.2 * 1_000 / _HDR_WHITE, 1)


# H.273, table 3. Browsers show the curves of television (1, 6, 14, 15) like sRGB's, as screens do.
_CURVES: dict[int, Curve] = {
    1: srgb, 4: power(2.2), 5: power(2.8), 6: srgb, 8: power(1.0), 13: srgb, 14: srgb, 15: srgb,
    16: _pq, 17: power(2.6), 18: _hlg,
}  # fmt: skip


@functools.lru_cache(maxsize=16)
def profile_of_code_points(primaries: int, transfer: int, grey: bool) -> bytes | None:
    """Return the profile of an image with these code points of H.273. None for sRGB's and for unknown ones."""
    curve = _CURVES.get(transfer)
    if curve is None or (grey and curve is srgb):
        return None
    if grey:
        return grey_profile(curve)
    if primaries not in _PRIMARIES or (primaries in {1, 5, 6, 7} and curve is srgb):
        return None  # the primaries of old television are sRGB's for the eye
    return rgb_profile(_PRIMARIES[primaries], curve)


def _xyz(x: float, y: float) -> Floats:
    if y <= 0:
        raise ValueError("a chromaticity is 0")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of version 2.4 for a screen."""
    tags = {b"desc": _text(b"made by CatalogMatch"), b"wtpt": _xyz_tag(*_D50), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += padded
    illuminant = struct.pack(">iii", *(round(value * 65536) for value in _D50))
    header = struct.pack(">I4sI4s4s4s", 0, b"", 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + illuminant
    content = header.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(content)) + content[4:]


def _text(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(1 + 8 + 3 + 67)


def _xyz_tag(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(float(value) * 65536) for value in (x, y, z)))


def _curve(curve: Curve) -> bytes:
    levels = np.linspace(0, 1, _CURVE_POINTS)
    points = np.clip(np.rint(curve(levels) * 65535), 0, 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + points.tobytes()


def is_known(primaries: int, transfer: int) -> bool:
    """Return whether these code points of H.273 name a colour space."""
    return primaries in _PRIMARIES and transfer in _CURVES
