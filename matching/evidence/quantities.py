"""Read quantities with units, pack counts and sizes from normalised texts, in seven languages."""

from __future__ import annotations

import re
from typing import NamedTuple

# Two quantities are equal within this ratio: 16 fl oz are 473 ml, and 1 TB is 1,000 or 1,024 GB.
TOLERANCE = 1.03

# Dimension, the unit that people read, and the names of each unit with its size in that unit.
_UNITS: dict[str, tuple[str, dict[float, str]]] = {
    "volume": ("ml", {
        1: "ml milliliter milliliters millilitre millilitres mililitros mililitro millilitri",
        10: "cl centiliter centilitre centilitres centilitros", 100: "dl deciliter decilitre",
        1000: "l lt ltr liter liters litre litres litro litros litri",
        29.5735: "floz fl.oz fl-oz fluidounce fluidounces", 3785.41: "gal gallon gallons",
    }),
    "weight": ("g", {
        0.001: "mg milligram milligramm milligramme", 1: "g gr gram grams gramm gramme grammes gramo gramos grammo "
        "grammi grama gramas", 1000: "kg kgs kilo kilos kilogram kilograms kilogramm kilogramme kilogrammes kilogramos",
        28.3495: "oz ounce ounces", 453.592: "lb lbs pound pounds pfund",
    }),
    "length": ("mm", {
        1: "mm", 10: "cm", 1000: "m meter meters metre metres metro metros metri",
        25.4: "in inch inches zoll pouce pouces pulgada pulgadas pollice pollici polegada polegadas \" ''",
        304.8: "ft foot feet",
    }),
    "memory": ("GB", {0.001: "mb", 1: "gb go gig gigabyte gigabytes", 1000: "tb to terabyte terabytes"}),
    "power": ("W", {1: "w watt watts", 1000: "kw"}),
    "voltage": ("V", {1: "v volt volts"}),
    "charge": ("mAh", {1: "mah", 1000: "ah"}),
    "frequency": ("MHz", {1: "mhz", 1000: "ghz"}),
    "resolution": ("megapixels", {1: "mp megapixel megapixels"}),
    "pages": ("pages", {1: "pages page sheets sheet blatt feuilles hojas fogli vellen folhas"}),
    "users": ("users", {1: "user users license licenses licence licences lizenz lizenzen"}),
    "speed": ("rpm", {1: "rpm"}),
}  # fmt: skip
_OF_UNIT = {
    name: (dimension, size)
    for dimension, (_unit, sizes) in _UNITS.items()
    for size, names in sizes.items()
    for name in names.split()
}

_NUMBER = r"(\d{1,6}(?:[.,]\d{1,3})?)"
_NAMES = "|".join(sorted(map(re.escape, _OF_UNIT), key=len, reverse=True))
_QUANTITY = re.compile(rf"(?<![\w.,]){_NUMBER}[ -]?(fl\.? ?oz|{_NAMES})(?![^\W_])|(?<![\w.,]){_NUMBER} ?(')(?!\w)")
_TIMES = re.compile(r"(?<![\w.,])(\d{1,3}) ?[x×*] ?(?=\d)")
_PIECES = (
    r"pack|packs|pk|er[- ]?pack|er|ct|count|pcs|pc|pieces?|stuck|stk|stuks|unites?|unidades|unita|pezzi|pz|und|"
    r"pieces|bottles|cans|flaschen|dosen|bouteilles|botellas|bottiglie|flessen|garrafas"
)
_SETS = r"packs? of|pack de|pack da|lot de|set of|set van|confezione da|caja de|pacote de|paquete de|box of|er set"
_PACK = re.compile(
    rf"(?<![\w.,])(\d{{1,3}})[ -]?(?:{_PIECES})(?![^\W_])|(?<!\w)(?:{_SETS}) (\d{{1,3}})(?!\w)"
    r"|(?<!\w)(single|twin|duo|triple)[- ]?pack"
)
_NAMED_PACKS = {"single": 1, "twin": 2, "duo": 2, "triple": 3}
_SIZE = re.compile(
    r"(?<![\w'])(?:(?:size|grosse|gr\.?|taille|talla|taglia|maat|tamanho) ?:? ?(\d{1,3}(?:[.,]5)?|[smlx]{1,4}|\dxl)"
    r"|(x{1,4}[sl]|[2-6]xl))(?!\w)"
)


class Quantity(NamedTuple):
    """A number in the base unit of its dimension."""

    dimension: str
    amount: float

    def __str__(self) -> str:
        unit = _UNITS[self.dimension][0]
        if unit in ("ml", "g", "mm") and self.amount >= 1000:
            return f"{self.amount / 1000:.4g} {({'ml': 'l', 'g': 'kg', 'mm': 'm'})[unit]}"
        return f"{self.amount:.4g} {unit}"

    def equals(self, other: Quantity) -> bool:
        low, high = sorted((self.amount, other.amount))
        return self.dimension == other.dimension and high <= low * TOLERANCE


def unit_of(quantity: Quantity) -> str:
    """Return the unit in which amounts of this dimension are given."""
    return _UNITS[quantity.dimension][0]


def quantities(text: str) -> frozenset[Quantity]:
    """Return the quantities of a normalised text. Units without a number are no quantities."""
    if not any(map(str.isdigit, text)):
        return frozenset()
    text = _TIMES.sub("", text)
    found = []
    for number, unit, short, prime in _QUANTITY.findall(text):
        amount = float((number or short).replace(",", "."))
        if prime:
            # A foot, or an inch of a screen: 6' is a cable and 24' a television.
            dimension, size = "length", 25.4 if amount >= 10 or "." in short else 304.8
        else:
            dimension, size = _OF_UNIT["floz" if unit.startswith("fl") else unit]
        if amount:
            found.append(Quantity(dimension, round(amount * size, 4)))
    return frozenset(found)


def pack_counts(text: str) -> frozenset[int]:
    """Return how many pieces a normalised text says that a pack has."""
    counts = [int(times) for times in _TIMES.findall(text)] if _names_unit(text) else []
    for before, after, named in _PACK.findall(text):
        counts.append(_NAMED_PACKS[named] if named else int(before or after))
    return frozenset([count for count in counts if count])


def sizes(text: str) -> frozenset[str]:
    """Return the sizes of clothes and shoes in a normalised text."""
    return frozenset([named or alone for named, alone in _SIZE.findall(text)])


def _names_unit(text: str) -> bool:
    """Return whether "6 x 5" can be six pieces of something: "800 x 600" is a resolution."""
    return _TIMES.search(text) is not None and _QUANTITY.search(_TIMES.sub("", text)) is not None
