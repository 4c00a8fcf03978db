"""Tell from the names of files which images show the same product: ``SKU_1.jpg``, ``SKU-front.jpg``, ``SKU/2.jpg``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from products.importing.file_names import normalize

MAX_VIEWS = 36  # of one product, as of a turntable; more files than that are products of a series
IMAGE_SUFFIXES = {
    "", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".gif", ".tif", ".tiff", ".bmp",
    ".jxl", ".jp2", ".j2k", ".jpf", ".jpx",
}  # fmt: skip
# fmt: off
_WORDS = [
    "main", "front", "back", "rear", "side", "left", "right", "top", "bottom", "inside", "outside", "open", "closed",
    "detail", "details", "closeup", "close", "zoom", "alt", "angle", "label", "pack", "packshot", "lifestyle", "cover",
    "hero", "vorne", "vorn", "hinten", "rückseite", "vorderseite", "seite", "links", "rechts", "oben", "unten", "innen",
    "etikett", "ansicht", "avant", "arrière", "face", "dos", "côté", "dessus", "dessous", "gauche", "droite",
    "étiquette", "frente", "delante", "detrás", "atrás", "lado", "izquierda", "derecha", "arriba", "abajo", "detalle",
    "fronte", "retro", "lato", "sinistra", "destra", "sopra", "sotto", "dettaglio", "voor", "voorkant", "achter",
    "achterkant", "zijkant", "boven", "onder", "trás", "direita", "esquerda", "detalhe",
]
# fmt: on
_FIRST_WORDS = (
    "main",
    "hero",
    "cover",
    "front",
    "vorne",
    "vorn",
    "vorderseite",
    "avant",
    "face",
    "frente",
    "fronte",
    "voor",
    "voorkant",
)  # fmt: skip
_WORD = rf"(?P<word>{'|'.join(sorted(map(re.escape, _WORDS), key=len, reverse=True))})[ _-]?(?P<word_number>\d{{1,2}})?"
# ``SKU_1``, ``SKU-02``, ``SKU.3``, ``SKU 4``, ``SKU (5)``, ``SKU_front``, ``SKU_back2``.
_SUFFIX = re.compile(
    rf"(?P<base>.*[^\s_.-])(?:\s?\((?P<copy>\d{{1,2}})\)|[\s_.-]{{1,3}}(?:(?P<number>\d{{1,2}})|{_WORD}))",
    re.IGNORECASE,
)
_VIEW_NAME = re.compile(rf"(?:{_WORD}|(?P<number>\d{{1,3}}))", re.IGNORECASE)
# What cameras, phones and programs call their files. Such a name says nothing of a product.
_CAMERA_WORD = (
    r"(?:img|dsc|dscn|dscf|p|pxl|mvimg|cimg|sam|gopr|image|photo|picture|bild|foto|scan|untitled|screenshot|_mg|_dsc"
    r"|whatsapp image|pano|export|file|pic)"
)
_CAMERA = re.compile(rf"{_CAMERA_WORD}?[ _-]*[\d _.-]*(?:\(\d+\))?", re.IGNORECASE)
_NO_SKU = re.compile(rf"{_CAMERA_WORD}[ _-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProductFile:
    """A file with the SKU and category that its path gives. ``order``: the order of the views of one product."""

    name: str
    sku: str
    category: str
    order: tuple[int, str] = (0, "")


def products_of_files(names: Sequence[str], *, group: bool = True) -> list[ProductFile]:
    """Return each file with its product, the views of a product one after the other.

    A file's name is the SKU and its folder the category. With ``group``, a folder of files that are only numbered or
    called after their view is one product, and so are files whose names differ in such an end.
    """
    paths = {name: PurePosixPath(normalize(name)) for name in names}
    files = {name: ProductFile(name, path.stem, path.parent.name) for name, path in paths.items()}
    if group:
        by_folder: dict[PurePosixPath, list[str]] = defaultdict(list)
        for name, path in paths.items():
            if path.suffix.lower() in IMAGE_SUFFIXES:
                by_folder[path.parent].append(name)
        common = _common_folder(paths.values())
        for folder, inside in by_folder.items():
            stems = {name: paths[name].stem for name in inside}
            if folder.name and _is_product(folder.name, stems.values(), alone=folder == common):
                category = "" if folder in {common, *common.parents} or folder.parent == common else folder.parent.name
                for name, stem in stems.items():
                    files[name] = ProductFile(name, folder.name, category, _order(_VIEW_NAME.fullmatch(stem), stem))
            else:
                for name, (base, order) in _split_names(stems).items():
                    # A folder for each product, with its name in that of the files.
                    own_folder = folder != common and folder.name.casefold() == base.casefold()
                    parent = folder.parent if own_folder else folder
                    category = "" if own_folder and parent == common else parent.name
                    files[name] = ProductFile(name, base, category, order)
    first: dict[tuple[str, str], int] = {}
    for at, name in enumerate(names):
        first.setdefault((files[name].category, files[name].sku), at)
    return sorted(files.values(), key=lambda file: (first[file.category, file.sku], file.order))


def describe_views(names: Sequence[str]) -> dict[str, Any]:
    """Return how many files became views of how many products by their names, with an example. Empty for none."""
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in products_of_files(names):
        if file.order[1]:  # The name has an end, or the folder is the product.
            grouped[file.category, file.sku].append(file.name)
    if not grouped:
        return {}
    [(_category, sku), files] = max(grouped.items(), key=lambda item: len(item[1]))
    return {
        "files": sum(map(len, grouped.values())),
        "products": len(grouped),
        "sku": sku,
        "example": [normalize(file) for file in files[:3]],
    }


def _common_folder(paths: Iterable[PurePosixPath]) -> PurePosixPath:
    """Return the deepest folder that contains all the files."""
    parents = [path.parent.parts for path in paths]
    shared = 0
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return PurePosixPath(*parents[0][:shared]) if parents else PurePosixPath()


def _is_product(folder: str, stems: Iterable[str], *, alone: bool) -> bool:
    """Return whether the files of a folder are called only after their views, so that the folder is the product.

    ``alone``: there are no other folders beside it, so that names of cameras do not say that it is one.
    """
    stems = list(stems)
    if not 0 < len(stems) <= MAX_VIEWS:
        return False
    own: list[str] = []
    others: list[str] = []
    for stem in stems:
        matched = _SUFFIX.fullmatch(stem)
        base = matched["base"] if matched else stem
        (own if folder.casefold() in {stem.casefold(), base.casefold()} else others).append(stem)
    if not others:
        return False  # The names contain the SKU, in the folder's case or another.
    if not alone and any(len(stem) > 3 for stem in others) and all(_CAMERA.fullmatch(stem) for stem in others):
        return True
    matches = [_VIEW_NAME.fullmatch(stem) for stem in others]
    numbers = sorted({int(match["number"]) for match in matches if match and match["number"]})
    padded = any(match and match["number"] and len(match["number"]) > 2 for match in matches)
    # Numbers such as 117 or 4 and 9 alone are SKUs. Views begin at 0 or 1 and have few gaps.
    counts = not numbers or (numbers[0] <= 1 and numbers[-1] <= 2 * len(numbers) + 1)
    return all(matches) and counts and not (padded and len(numbers) < 2)


def _split_names(stems: dict[str, str]) -> dict[str, tuple[str, tuple[int, str]]]:
    """Return SKU and order of each file of one folder whose names contain the SKU."""
    matches = {
        name: match
        for name, stem in stems.items()
        if (match := _SUFFIX.fullmatch(stem)) is not None and not _NO_SKU.fullmatch(match["base"])
    }
    views: dict[str, list[re.Match[str]]] = defaultdict(list)
    for match in matches.values():
        views[match["base"].casefold()].append(match)
    whole = {stem.casefold() for stem in stems.values()}
    groups = {base for base, found in views.items() if _are_views(found, has_first=base in whole)}
    # A lone SKU_1 is a view if other files of the folder are numbered the same way.
    kinds = {_kind(match) for base in groups for match in views[base]}
    split = {name: (stem, (0, "")) for name, stem in stems.items()}
    for name, match in matches.items():
        base = match["base"].casefold()
        follows = len(views[base]) == 1 and _kind(match) in kinds and (match["word"] or _number(match) <= 1)
        if base in groups or follows:
            split[name] = (match["base"], _order(match, stems[name]))
    # One spelling of the SKU for all: files of one product can differ in case.
    spelling: dict[str, str] = {}
    return {name: (spelling.setdefault(base.casefold(), base), order) for name, (base, order) in split.items()}


def _are_views(matches: Sequence[re.Match[str]], *, has_first: bool) -> bool:
    """Return whether names with the same start are views of one product. ``has_first``: a file has only the start.

    AB-12 and AB-13 are two SKUs. Numbers of views begin at 0 or 1, or at 2 after a file without one.
    """
    numbers = sorted({_number(match) for match in matches if not match["word"]})
    counts = not numbers or (numbers[0] <= 1 + has_first and numbers[-1] <= 2 * len(numbers) + 1)
    return counts and 1 < len(matches) + has_first <= MAX_VIEWS


def _number(match: re.Match[str]) -> int:
    return int(match["copy"] or match["number"])


def _kind(match: re.Match[str]) -> str:
    return "word" if match["word"] else "copy" if match["copy"] else "number"


def _order(match: re.Match[str] | None, stem: str) -> tuple[int, str]:
    """Return where a view stands: the file without an end, front views, numbers, other views."""
    if match is None:
        return 0, stem.casefold()
    groups = match.groupdict()
    if word := groups.get("word"):
        return (1 if word.casefold() in _FIRST_WORDS else 1000) + int(groups.get("word_number") or 0), word.casefold()
    return 2 + int(groups.get("copy") or groups.get("number") or 0), stem.casefold()
