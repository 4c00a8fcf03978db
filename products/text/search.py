"""Find products by words, also by words with typing errors, and products with nearly the same name.

Every function is bounded in time, whatever the text says: a common word costs as much as a rare one.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from rapidfuzz import fuzz

from products.models import Product
from products.text.trigrams import TABLE, TITLE_COLUMNS, body, title

MAX_TEXT = 300  # characters of a text that are looked at
MAX_WORDS = 16
GRAM = 3  # letters of the shortest word that the index can find
# Shorter words are looked for in so many of the newest products that have the longer ones (SQLite).
NEWEST = 10_000
# A word in more products than this tells little. So many are read for each word.
COMMON = 500
MAX_GRAMS = 24
NEAREST = 100  # products whose names are compared letter by letter
# How alike a word and the best part of a name are, 0 to 100: one wrong letter in six.
TYPING_ERROR = 75.0
SAME_NAME = 85.0
ALIKE_IN_POSTGRES = "0.4"  # share of a text's trigrams; its default of .6 misses two wrong words of two

_WORD = re.compile(r"[^\W_]+")


def search(products: QuerySet[Product], text: str) -> QuerySet[Product]:
    """Return those of the products that have all words of a text, in any of their texts and attributes.

    If no product has them, those whose SKU, name or brand nearly has them. A text without words finds all.
    """
    words = list(dict.fromkeys(text[:MAX_TEXT].split()))[:MAX_WORDS]
    if not words:
        return products
    # The first look does not know which of the products are wanted, so that a common word costs nothing.
    if Product.objects.filter(pk__in=_with_all(words, limit=1)).order_by().exists():
        return products.filter(pk__in=_with_all(words))
    return products.filter(pk__in=_with_typing_errors(text))


def matching_ids(text: str, limit: int) -> list[int]:
    """Return the ids of the newest products that ``search`` finds, at most ``limit``."""
    return list(search(Product.objects.order_by("-pk"), text).values_list("pk", flat=True)[:limit])


def find_same_name(name: str, without: int | None = None, limit: int = 5) -> list[int]:
    """Return the ids of catalogue products whose name is nearly this one, the most alike first.

    None if more than ``limit`` have the most alike name: then it names no product.
    """
    words = _words(name)
    if not words:
        return []
    catalogue = Product.objects.filter(pk__in=_nearest(name), is_historical=True).exclude(pk=without or 0)
    asked = " ".join(words)
    alike = [
        (fuzz.token_sort_ratio(asked, " ".join(_words(other))), -pk)
        for pk, other in catalogue.values_list("pk", "name")
    ]
    near = sorted([pair for pair in alike if pair[0] >= SAME_NAME], reverse=True)
    if len(near) > limit and near[limit][0] == near[0][0]:
        return []
    return [-pk for _ratio, pk in near[:limit]]


def find_numbers(numbers: Iterable[str], without: int | None = None, limit: int = 5) -> list[int]:
    """Return the ids of catalogue products that have one of these numbers in any text, oldest first.

    A number that more than ``limit`` products have is left out.
    """
    found: dict[int, None] = {}
    for number in numbers:
        some = _with_all([number], limit=COMMON)
        with connection.cursor() as cursor:  # a subquery makes SQLite look at each product
            cursor.execute(some.sql, some.params)
            having = [row[0] for row in cursor.fetchall()]
        catalogue = Product.objects.filter(pk__in=having, is_historical=True).exclude(pk=without or 0)
        ids = list(catalogue.order_by("pk").values_list("pk", flat=True)[: limit + 1])
        if len(ids) <= limit:
            found |= dict.fromkeys(ids)
    return list(found)[:limit]


def _words(text: str) -> list[str]:
    """Return the different words of a text, in lower case and in their order."""
    return list(dict.fromkeys(_WORD.findall(text[:MAX_TEXT].casefold())))[:MAX_WORDS]


def _with_all(words: Sequence[str], limit: int | None = None) -> RawSQL:
    """Return a subquery of the ids of products that have all these parts of words, of the oldest if limited."""
    end = "" if limit is None else f" LIMIT {limit}"
    words = [word.replace("\0", " ") for word in words]
    if connection.vendor == "postgresql":
        texts = f"{title('postgresql')} ILIKE %s OR {body('postgresql')} ILIKE %s"
        where = " AND ".join(f"({texts})" for _word in words)
        return RawSQL(f"SELECT id FROM products WHERE {where}{end}", _patterns(words))  # noqa: S608, S611  # nosec B608, B611 # our names
    long, short = [word for word in words if len(word) >= GRAM], [word for word in words if len(word) < GRAM]
    source, parameters = TABLE, []
    if long:
        source, parameters = f"{TABLE} WHERE {TABLE} MATCH %s", [_phrases(long)]
    if short:
        likes = " AND ".join(["(title LIKE %s ESCAPE '\\' OR body LIKE %s ESCAPE '\\')"] * len(short))
        newest = f"SELECT rowid, title, body FROM {source} ORDER BY rowid DESC LIMIT {NEWEST}"  # noqa: S608  # nosec B608 # our names
        source, parameters = f"({newest}) WHERE {likes}", parameters + _patterns(short)
    return RawSQL(f"SELECT rowid FROM {source}{end}", parameters)  # noqa: S608, S611  # nosec B608, B611 # our names


def _patterns(words: Sequence[str]) -> list[str]:
    """Return a LIKE pattern of each word twice, for the title and the body."""
    escaped = [re.sub(r"([\\%_])", r"\\\1", word) for word in words]
    return [f"%{word}%" for word in escaped for _text in range(2)]


def _phrases(words: Iterable[str]) -> str:
    """Return an FTS5 query for all these words. Within quotation marks nothing has a meaning but the mark itself."""
    return " AND ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def _with_typing_errors(text: str) -> list[int]:
    """Return the ids of products whose title nearly has every word of a text."""
    words = [word for word in _words(text) if len(word) >= GRAM]
    if not words:
        return []
    rows = Product.objects.filter(pk__in=_nearest(text)).values_list("pk", *TITLE_COLUMNS)
    return [
        pk
        for pk, *texts in rows
        if all(fuzz.partial_ratio(word, " ".join(texts).casefold()) >= TYPING_ERROR for word in words)
    ]


def _nearest(text: str) -> list[int]:
    """Return the ids of up to NEAREST products whose titles share most with a text."""
    words = [word for word in _words(text) if len(word) >= GRAM]
    if not words:
        return []
    return _nearest_in_postgres(" ".join(words)) if connection.vendor == "postgresql" else _nearest_in_sqlite(words)


def _nearest_in_postgres(text: str) -> list[int]:
    expression = title("postgresql")
    # The inner limit bounds the time for a name that very many products have.
    sql = (
        f"SELECT id FROM (SELECT id, {expression} AS title FROM products WHERE %s <%% {expression} LIMIT {4 * COMMON}) "  # noqa: S608  # nosec B608 # our names
        f"AS near ORDER BY word_similarity(%s, title) DESC, id LIMIT {NEAREST}"
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('pg_trgm.word_similarity_threshold', %s, true)", [ALIKE_IN_POSTGRES])
        cursor.execute(sql, [text, text])
        return [row[0] for row in cursor.fetchall()]


def _nearest_in_sqlite(words: Sequence[str]) -> list[int]:
    """Count in which products the rare words are. A word that no product has counts by its trigrams."""
    scores: dict[int, float] = defaultdict(float)
    parts: list[str] = []  # of words that tell little each, as a query for all of them
    left = MAX_GRAMS
    for word in words:
        ids = _ids(_quoted(word))
        if 0 < len(ids) <= COMMON:
            _count(scores, ids, len(word))
            continue
        parts.append(_quoted(word) if ids else _halves(word))
        if not ids:
            grams = list(dict.fromkeys(word[at : at + GRAM] for at in range(len(word) - GRAM + 1)))[:left]
            left -= len(grams)
            for gram in grams:
                with_gram = _ids(_quoted(gram))
                if len(with_gram) <= COMMON:
                    _count(scores, with_gram, 1.0)
    if not scores and parts:
        _count(scores, _ids(" AND ".join(parts)), 1.0)
    return heapq.nlargest(NEAREST, scores, key=lambda pk: scores[pk])


def _halves(word: str) -> str:
    """Return a query for a word with one wrong letter: one half of it is right."""
    middle = len(word) // 2
    halves = [half for half in (word[:middle], word[middle:]) if len(half) >= GRAM]
    return "(" + " OR ".join(_quoted(half) for half in halves or [word]) + ")"


def _count(scores: dict[int, float], ids: Sequence[int], weight: float) -> None:
    gain = weight * math.log(2 * COMMON / (len(ids) + 1))
    for pk in ids:
        scores[pk] += gain


def _ids(query: str) -> list[int]:
    """Return the ids of products whose title matches an FTS5 query, at most one more than COMMON."""
    parameters: list[Any] = [f"title : ({query})", COMMON + 1]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH %s LIMIT %s", parameters)  # noqa: S608  # nosec B608 # our name
        return [row[0] for row in cursor.fetchall()]
