"""Normalise text, and take words, character n-grams and model numbers from it."""

from __future__ import annotations

import re
import unicodedata

GRAM_LENGTH = 3

_WORD = re.compile(r"[^\W_]+")
# A token with its inner hyphens, dots and slashes: model numbers are written with and without them.
_TOKEN = re.compile(r"[^\W_]+(?:[-./][^\W_]+)*")
_NUMBER = re.compile(r"(?<![\w.,])v?(\d{1,4}(?:\.\d{1,3})?)(?![\w.,]*\w)")
_SPACED_POINT = re.compile(r"(?<=\d) \.(?=\d)")
# "5-disc", "1250-watt", "18-70mm", "500ml" and "4x125g" are measures, not models.
_UNITS = "g|l|v|w|in|mm|cm|ml|cl|gb|mb|tb|hz|mhz|ghz|kg|mg|oz|lb|lbs|ft|ah|mah|inch|watt|watts"
_MEASURE = re.compile(rf"[\d./-]*\d(?:-[a-z]{{3,}}|[x./-]|x\d+(?:{_UNITS})?|{_UNITS})")
_MIN_MODEL_LENGTH, _MAX_MODEL_LENGTH = 3, 30
_MIN_DIGITS_ALONE = 5


def normalise(text: str) -> str:
    """Return the text in lower case, without accents and with single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return " ".join(text.casefold().split())


def words(text: str) -> list[str]:
    """Return the words of a normalised text in their order."""
    return _WORD.findall(text)


def compact(text: str) -> str:
    """Return only the letters and digits of a normalised text."""
    return "".join(_WORD.findall(text))


def grams(tokens: list[str]) -> frozenset[str]:
    """Return the character n-grams of words that are joined by spaces."""
    text = f" {' '.join(tokens)} "
    return frozenset([text[start : start + GRAM_LENGTH] for start in range(len(text) - GRAM_LENGTH + 1)])


def model_numbers(text: str) -> frozenset[str]:
    """Return tokens of letters and digits, or of at least five digits, without their punctuation."""
    found = []
    for token in _TOKEN.findall(text):
        model = token if token.isalnum() else compact(token)
        if not _MIN_MODEL_LENGTH <= len(model) <= _MAX_MODEL_LENGTH or model.isalpha() or _MEASURE.fullmatch(token):
            continue
        if not model.isdigit() or (len(model) >= _MIN_DIGITS_ALONE and token.isalnum()):
            found.append(model)
    return frozenset(found)


def compounds(text: str) -> frozenset[str]:
    """Return words with hyphens as one word: a model "LCS-CSL" is also written "LCSCSL"."""
    joined = [compact(token) for token in _TOKEN.findall(text) if not token.isalnum()]
    return frozenset([word for word in joined if word.isalpha() and len(word) >= _MIN_DIGITS_ALONE])


def numbers(text: str) -> frozenset[str]:
    """Return the numbers that stand alone, such as years and versions: "7.0" is "7"."""
    found = _NUMBER.findall(_SPACED_POINT.sub(".", text))
    return frozenset([number.rstrip("0").rstrip(".") if "." in number else number.lstrip("0") for number in found])
