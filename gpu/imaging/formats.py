"""Recognise the format of an image file by its first bytes, before any decoder reads it."""

from __future__ import annotations

import re
import zlib

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
    (b"\x00\x00\x01\x00", "Windows icon (ICO)"),
    (b"\x00\x00\x02\x00", "Windows cursor (CUR)"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"DDS ", "DDS"),
    (b"icns", "macOS icon (ICNS)"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"BPG\xfb", "BPG"),
    (b"\x8aMNG", "MNG"),
    (b"\x8bJNG", "JNG"),
    (b"\x01\xda", "SGI"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x0a\x05\x01", "PCX"),
    (b"\xd7\xcd\xc6\x9a", "Windows metafile (WMF)"),
    *((b"P%d%c" % (n, space), "Netpbm") for n in range(1, 8) for space in b"\n\r\t "),
    # Camera raw files that are no TIFF. The others are recognised in gpu/imaging/tiff.py.
    (b"FUJIFILMCCD-RAW", "camera raw (Fujifilm RAF)"),
    (b"IIRO", "camera raw (Olympus ORF)"),
    (b"IIRS", "camera raw (Olympus ORF)"),
    (b"MMOR", "camera raw (Olympus ORF)"),
    (b"IIU\x00", "camera raw (Panasonic RW2)"),
    (b"FOVb", "camera raw (Sigma X3F)"),
    (b"\x00MRM", "camera raw (Minolta MRW)"),
    (b"II\x1a\x00\x00\x00HEAPCCDR", "camera raw (Canon CRW)"),
)
_TEXT_HEAD_BYTES = 64 * 1024  # drawing programs write long comments before the first element
_PDF_HEAD_BYTES = 1024  # readers find the signature of a PDF up to here


def sniff(data: bytes) -> str:
    """Return the file's format. Raises not_an_image or unsupported_format."""
    head = data[:512]
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
        if b"crx " in brands:
            raise unsupported("The format camera raw (Canon CR3)")
        raise ImageProcessingError(
            "unsupported_format", f"The file is a video or another media file. {_accepted_formats()}"
        )
    if (other := _other_format(data)) is not None:
        raise unsupported(f"The format {other}")
    raise ImageProcessingError("not_an_image", f"The file is not an image. {_accepted_formats()}")


def unsupported(what: str) -> ImageProcessingError:
    """Return the error for a kind of file that is known and not accepted."""
    return ImageProcessingError("unsupported_format", f"{what} is not supported. {_accepted_formats()}")


def _accepted_formats() -> str:
    return f"Accepted are {', '.join(ACCEPTED)}."


def _other_format(data: bytes) -> str | None:
    """Return the name of a format that is not accepted, or None for an unknown file."""
    if _is_targa(data):
        return "Targa (TGA)"
    for signature, name in _OTHER_SIGNATURES:
        if data.startswith(signature):
            return name
    if b"%PDF-" in data[:_PDF_HEAD_BYTES]:
        return "PDF"
    if data[:4] == b"\x01\x00\x00\x00" and data[40:44] == b" EMF":
        return "Windows metafile (EMF)"
    if data[128:132] == b"DICM":
        return "DICOM"
    if _is_svg(data[:_TEXT_HEAD_BYTES]):
        return "SVG"
    return None


def _is_targa(data: bytes) -> bool:
    """Return whether the file is a Targa. Old ones have no signature, only a header with few possible values."""
    if data[-18:-2] == b"TRUEVISION-XFILE":
        return True
    if len(data) < 18 or data[1] > 1 or data[2] not in {1, 2, 3, 9, 10, 11}:
        return False
    has_palette, width, height = data[1], data[12:14], data[14:16]
    # Without a palette, its fields are 0. Icons and cursors have the number of their images there.
    palette_is_valid = data[7] in {15, 16, 24, 32} if has_palette else not any(data[3:8])
    return (
        palette_is_valid
        and (data[2] in {1, 9}) == bool(has_palette)
        and data[16] in {8, 15, 16, 24, 32}
        and not data[17] & 0xC0
        and any(width)
        and any(height)
    )


def _is_svg(head: bytes) -> bool:
    """Return whether the text begins with an SVG element, also if it is compressed or UTF-16."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head, _TEXT_HEAD_BYTES)
        except zlib.error:
            return False
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        head = head.replace(b"\0", b"")
    text = head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    while text.startswith((b"<?", b"<!")):  # what XML allows before the first element
        if text.startswith(b"<!--"):
            end = b"-->"
        elif text[:14].lower() == b"<!doctype html":
            return False
        elif text.startswith(b"<?"):
            end = b"?>"
        else:
            end = b"]>" if b"[" in text.partition(b">")[0] else b">"
        text = text.partition(end)[2].lstrip()
    return re.match(rb"<(?:\w+:)?svg[\s>/]", text, re.IGNORECASE) is not None


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
