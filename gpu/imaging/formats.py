"""Recognise the format of an image file by its first bytes, before any decoder reads it."""

from __future__ import annotations

from gpu.imaging.errors import ImageProcessingError

ACCEPTED = ("JPEG", "PNG", "WebP", "AVIF", "HEIC", "GIF", "TIFF", "BMP")

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# Formats that are recognised and not accepted, so that the error can name them.
_OTHER_SIGNATURES = (
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x01\x00", "icon"),
    (b"\x00\x00\x02\x00", "cursor"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"DDS ", "DDS"),
    (b"icns", "icon"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"\x01\xda", "SGI"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x0a\x05\x01", "PCX"),
    *((b"P%d%c" % (n, space), "Netpbm") for n in range(1, 8) for space in b"\n\r\t "),
)


def sniff(data: bytes) -> str:
    """Return the file's format. Raises not_an_image or unsupported_format."""
    head = data[:512]
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    accepted = f"Accepted are {', '.join(ACCEPTED)}."
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
        raise ImageProcessingError("unsupported_format", f"The file is a video or another media file. {accepted}")
    other = next((name for signature, name in _OTHER_SIGNATURES if head.startswith(signature)), None)
    if other is None and b"<svg" in head.lower():
        other = "SVG"
    if other is not None:
        raise ImageProcessingError("unsupported_format", f"The format {other} is not supported. {accepted}")
    raise ImageProcessingError("not_an_image", f"The file is not an image. {accepted}")


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a WebP, or (0, 0) if its first chunk has none.

    Source: RFC 9649, section 2.
    """
    head = data[:30].ljust(30, b"\0")
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0, 0
