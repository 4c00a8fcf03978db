"""Read GTIN, ISBN and ISSN, check their digits, and say how much each can tell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from stdnum import ean, isbn, issn

_SEPARATORS = re.compile(r"[\s\-./]+")
_GTIN_LENGTHS = (8, 12, 13, 14)
# Ranges of 13 digits that each shop fills for itself, and coupons (GS1's list of prefixes).
_LOCAL_PREFIXES = ("02", "04", "05", "2", "98", "99")
_LOCAL_PREFIXES_OF_8 = ("0", "2")
_VARIABLE_MEASURE = "9"  # the first of 14 digits


class Standing(StrEnum):
    """What an identifier can tell about a product."""

    GLOBAL = "global"  # it names one product in the whole world
    SERIES = "series"  # an ISSN names all issues
    LOCAL = "local"  # every shop gives it to what it likes, or weighs it in
    INVALID = "invalid"  # no such number exists


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier as 14 digits, or as it was given if it is invalid."""

    number: str
    standing: Standing
    reason: str = ""

    @property
    def is_telling(self) -> bool:
        return self.standing in (Standing.GLOBAL, Standing.SERIES)


def read_identifier(text: str) -> Identifier | None:
    """Return a GTIN, ISBN or ISSN with 14 digits, or None for an empty text.

    An ISBN-10 and its ISBN-13 get the same digits. ``reason`` says what is wrong with an invalid one.
    """
    number = _SEPARATORS.sub("", text).upper()
    if not number:
        return None
    if len(number) == 10 and isbn.is_valid(number):
        return Identifier(isbn.to_isbn13(number).zfill(14), Standing.GLOBAL)
    # Eight digits without a hyphen are a GTIN-8: an ISSN is printed with one.
    if len(number) == 8 and ("-" in text.strip() or not number.isdigit()) and issn.is_valid(number):
        return _series(number[:7])
    return _read_gtin(number)


def _read_gtin(number: str) -> Identifier:
    if not (number.isascii() and number.isdigit()):
        return Identifier(number, Standing.INVALID, f"“{number}” has other characters than digits.")
    if not number.strip("0"):
        return Identifier(number, Standing.INVALID, "It has only zeros.")
    if len(number) not in _GTIN_LENGTHS:
        return Identifier(number, Standing.INVALID, f"“{number}” has {len(number)} digits. A GTIN has 8, 12, 13 or 14.")
    # The check digit counts from the right, so that zeros in front change nothing.
    if not _has_valid_check_digit(number):
        return Identifier(number, Standing.INVALID, f"The check digit of “{number}” is wrong.")
    digits = number.zfill(14)
    if digits.startswith("0977"):
        return _series(digits[4:11])  # the two digits that follow number price changes
    return Identifier(digits, _standing(digits))


def _series(digits: str) -> Identifier:
    return Identifier(issn.to_ean(digits + issn.calc_check_digit(digits)).zfill(14), Standing.SERIES)


def _has_valid_check_digit(number: str) -> bool:
    return ean.calc_check_digit(number[:-1]) == number[-1]


def _standing(digits: str) -> Standing:
    indicator, base = digits[0], digits[1:]
    if base.startswith("00000"):
        is_local = base[5:].startswith(_LOCAL_PREFIXES_OF_8)
    else:
        is_local = base.startswith(_LOCAL_PREFIXES) or indicator == _VARIABLE_MEASURE
    return Standing.LOCAL if is_local else Standing.GLOBAL
