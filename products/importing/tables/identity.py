"""Restore keys that a spreadsheet damaged, if that is certain, and name those that cannot be restored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from core.spreadsheets.sheets import Mark

_SCIENTIFIC = re.compile(r"([+-]?)(\d)(?:[.,](\d+))?[eE]([+-])(\d{2,3})")
_FORMULA_TEXT = re.compile(r'=\s*"((?:[^"]|"")*)"')
_APOSTROPHE = re.compile(r"'(?=[^'=+\-@]*$)(?=\S)")
_ERROR = re.compile(r"#(?:N/?[ADBV]|NV|N/D|N/B|[A-ZÀ-Ý¡ÄÖÜ]+[!?]|¡?[A-ZÀ-Ý]+!|DIV/0!|#+)", re.IGNORECASE)
_HASHES = re.compile(r"#{3,}")
_WHOLE_DECIMAL = re.compile(r"(\d+)\.0+")
_DECIMAL = re.compile(r"\d+\.\d*[1-9]\d*|\d+\.0\d+")
_EMPTY = frozenset({"nan", "none", "null", "n/a", "<na>", "nat", "\\n", "undefined", "nil", "-", "--", "–", "—"})
_MONTHS = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|mai|mrz|mär|märz|okt|dez|janv|févr|mars|avr|juin|juil|août|"
    "déc|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|mrt|mei|fev|out|maggio|giugno|luglio"
)
_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
    r"|\d{1,2}([./-])\d{1,2}\1(?:19|20)\d{2}(?: \d{1,2}:\d{2}(?::\d{2})?)?"
    rf"|\d{{1,2}}[-.] ?(?:{_MONTHS})\.?(?:[- ]\d{{2,4}})?"
    rf"|(?:{_MONTHS})\.?[- ]\d{{2,4}}",
    re.IGNORECASE,
)


@dataclass(slots=True)
class KeyProfile:
    """What all keys of a column together tell. ``filled``: how many there are."""

    filled: int = 0
    whole_decimals: int = 0
    whole_numbers: int = 0
    decimals: int = 0

    def add(self, text: str) -> None:
        if is_empty(text):
            return
        self.filled += 1
        if _WHOLE_DECIMAL.fullmatch(text):
            self.whole_decimals += 1
        elif text.isdecimal():
            self.whole_numbers += 1
        elif _DECIMAL.fullmatch(text):
            self.decimals += 1

    @property
    def has_decimals_added(self) -> bool:
        """Return whether a program wrote whole numbers with decimals: then no number is without."""
        return bool(self.whole_decimals) and not self.whole_numbers and not self.decimals


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it was typed. ``problem``: why it cannot be known, or ""."""

    text: str = ""
    problem: str = field(default="")


def is_empty(text: str) -> bool:
    """Return whether a cell has no key, or what programs write for none."""
    return not text or text.casefold() in _EMPTY


def restore(text: str, mark: Mark | None = None, profile: KeyProfile | None = None) -> Key:
    """Return the key that was typed into a cell whose text is ``text``, if that is certain."""
    text = text.strip()
    if mark is Mark.FORMULA:
        return Key("", _("it is a formula whose value is not stored; open the file in a spreadsheet and save it"))
    if mark is Mark.DATE or _is_date(text):
        return Key("", _("%s is a date, which a spreadsheet made of another text; type it as text") % text)
    if mark is Mark.ERROR or _ERROR.fullmatch(text) or _HASHES.fullmatch(text):
        return Key("", _("%s is the error of a formula or of a narrow column") % text)
    if mark is Mark.LONG_NUMBER:
        return Key("", _("%s is a number of more than 15 digits, whose last ones a spreadsheet made zero") % text)
    if is_empty(text):
        return Key()
    if quoted := _FORMULA_TEXT.fullmatch(text):
        return restore(quoted[1].replace('""', '"').strip(), None, profile)
    if found := _SCIENTIFIC.fullmatch(text):
        return _from_scientific(text, found)
    if (whole := _WHOLE_DECIMAL.fullmatch(text)) and profile is not None:
        if profile.has_decimals_added:
            return Key(whole[1])
        if profile.whole_numbers:
            return Key("", _("%s may be the number %s with decimals that a program added") % (text, whole[1]))
    return Key(_APOSTROPHE.sub("", text, count=1) if text.startswith("'") else text)


def _from_scientific(text: str, found: re.Match[str]) -> Key:
    sign, first, digits, exponent = found[1], found[2], found[3] or "", int(found[5])
    if found[4] == "+" and not sign and exponent < 15 and len(digits) >= exponent and not digits[exponent:].strip("0"):
        return Key(first + digits[:exponent])
    return Key("", _("%s is a number that a spreadsheet shortened; its digits are lost") % text)


def _is_date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    # A spreadsheet writes months with one capital. MAR-24 is a key that it did not touch.
    letters = "".join(char for char in text if char.isalpha() and char != "T")
    return not (len(letters) > 1 and letters.isupper())


def first_filled(profiles: Iterable[tuple[int, KeyProfile]]) -> int | None:
    """Return the first column that has any key, or None."""
    return next((index for index, profile in profiles if profile.filled), None)
