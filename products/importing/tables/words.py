"""The words that shops and tools use for columns, from ``words.json``, and how headers are compared with them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

_MAX_HEADER = 120  # characters; a longer cell is a text, not the name of a column
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")
_OTHER = re.compile(r"[^\w✓✔☑✗✘☐]+|_")
_LOCALES = "en|de|fr|es|it|nl|pt|pl|sv|da|cs|fi|tr"
_LOCALE = re.compile(
    rf"(.+?)[\s\-_.:(\[]+({_LOCALES})(?:[-_][A-Za-z]{{2}})?(?:-[\w-]+)?[)\]]*", re.IGNORECASE | re.DOTALL
)
_AMAZON = re.compile(r"\[[\w=]+\]|#\d+\.\w+")  # item_name[marketplace_id=…]#1.value
_PARENTHESES = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_NUMBER = re.compile(r"\d+")


@lru_cache(maxsize=4096)
def normalize(text: str) -> str:
    """Return a header as words: small letters without accents and signs, one space between them."""
    text = unicodedata.normalize("NFKC", text[:_MAX_HEADER]).strip()
    if text.isupper() is False:
        text = _CAMEL.sub(" ", text)
    text = unicodedata.normalize("NFD", text.casefold())
    text = "".join(char for char in text if not unicodedata.combining(char))
    return _OTHER.sub(" ", text).strip()


def spellings(header: str) -> Iterator[tuple[str, str]]:
    """Yield what a header may mean, the likeliest first: its words, and the language that it names or ""."""
    if len(header) > _MAX_HEADER:
        return
    words = normalize(header)
    yield words, ""
    yield words.removeprefix("g "), ""  # of a feed's namespace: g:id
    plain = _AMAZON.sub("", header)
    yield normalize(plain), ""
    yield normalize(_PARENTHESES.sub(" ", plain)), ""
    if found := _LOCALE.fullmatch(plain.strip()):
        yield normalize(found[1]), found[2].lower()


@cache
def words() -> dict[str, list[str]]:
    """Return the words of each field, the clearest first, and of other meanings."""
    data: dict[str, list[str]] = json.loads((Path(__file__).parent / "words.json").read_text(encoding="utf-8"))
    return data


@cache
def ranks(field: str) -> dict[str, int]:
    """Return the words of a field with their ranks. The clearest has the rank 1."""
    found: dict[str, int] = {}
    for rank, word in enumerate(words()[field], start=1):
        found.setdefault(word, rank)
    return found


@cache
def _set(name: str) -> frozenset[str]:
    return frozenset(words()[name])


def image_rank(spelling: str) -> int | None:
    """Return how a header names images: 0 the main one, 1 any, 9 small copies, or None if it names no images."""
    tokens = _NUMBER.sub(" ", spelling).split()
    if not tokens or not any(token in _set("image nouns") for token in tokens):
        return None
    small = [token for token in tokens if token in _set("small image")]
    others = [
        t for t in tokens if t not in small and t not in _set("image nouns") and t not in _set("image qualifiers")
    ]
    if others or (tokens in (["name"], ["media"], ["filename"], ["gallery"]) and spelling != tokens[0]):
        return None
    if spelling in ("name", "file name") and "file" not in tokens:
        return None
    if small:
        return 9
    return 0 if any(token in _set("main image") for token in tokens) or spelling in ("image", "images") else 1


def parse_boolean(text: str) -> bool | None:
    """Return what a cell says in any of the languages, or None if it is neither yes nor no."""
    for value in (text.strip().casefold(), normalize(text)):
        if value in _set("true"):
            return True
        if value in _set("false"):
            return False
    return None
