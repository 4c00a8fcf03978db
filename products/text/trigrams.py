"""The trigram index of products' texts, which the database keeps current by itself.

SQLite has an FTS5 table that triggers fill, PostgreSQL has indexes of pg_trgm. Neither can miss a bulk update or SQL by
hand. Both are created after every migrate.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import DatabaseError, connections, transaction

from products.models import Product

logger = logging.getLogger(__name__)

TABLE = "product_text"
TITLE_COLUMNS = ("sku", "name", "brand", "gtin", "mpn")
# Longer texts say nothing more about which product it is. Fields and attributes within their limits are shorter.
MAX_BODY = 20_000

_WATCHED = (*TITLE_COLUMNS, "category", "description", "attributes")
_TRIGGERS = ("product_text_inserted", "product_text_updated", "product_text_deleted")


def title(vendor: str, row: str = "products") -> str:
    """Return the SQL of the text by which a product is known, such as its SKU, name and brand."""
    if vendor == "postgresql":  # a function that an index may use: concat_ws is not
        return "(" + " || ' ' || ".join(f"{row}.{column}" for column in TITLE_COLUMNS) + ")"
    return "(" + " || ' ' || ".join(f"ifnull({row}.{column}, '')" for column in TITLE_COLUMNS) + ")"


def body(vendor: str, row: str = "products") -> str:
    """Return the SQL of everything else that is known about a product in words."""
    if vendor == "postgresql":
        return f"({row}.category || ' ' || {row}.description || ' ' || {row}.attributes::text)"
    # Stored JSON escapes letters with accents, so its values are read. SQLite reads only 1,000 levels, and older
    # versions of the program stored more.
    readable = f"CASE WHEN json_valid({row}.attributes) THEN {row}.attributes ELSE '{{}}' END"
    tree = f"json_tree({readable}) WHERE type IN ('text', 'integer')"
    values = f"(SELECT group_concat(atom, ' ') FROM {tree})"  # noqa: S608  # nosec B608 # our names
    return (
        f"substr(ifnull({row}.category, '') || ' ' || ifnull({row}.description, '') || ' ' || "
        f"ifnull({values}, ''), 1, {MAX_BODY})"
    )


def install(using: str, **_: Any) -> None:
    """Create the index where it is missing, and fill it."""
    connection = connections[using]
    if "products" not in connection.introspection.table_names():
        return
    with transaction.atomic(using), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            _install_postgres(cursor)
        elif missing(using):
            _install_sqlite(cursor)


def missing(using: str) -> set[str]:
    """Return the names of missing parts of the index. Without them searches miss products."""
    with connections[using].cursor() as cursor:
        if connections[using].vendor == "postgresql":
            cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'products'")
            expected = {"product_title_trigrams", "product_body_trigrams"}
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'trigger')")
            expected = {TABLE, *_TRIGGERS}
        return expected - {row[0] for row in cursor.fetchall()}


def count_outdated(using: str) -> int:
    """Return how many products the index has with other texts than they have, or lacks, or has too many."""
    if connections[using].vendor == "postgresql":
        return 0  # its indexes are checked by itself
    if not _is_intact(using):
        return Product.objects.using(using).count()
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM products LEFT JOIN {TABLE} AS found ON found.rowid = products.id "  # noqa: S608  # nosec B608 # our names
            f"WHERE found.title IS NOT {title('sqlite')} OR found.body IS NOT {body('sqlite')}"
        )
        outdated: int = cursor.fetchone()[0]
        cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE rowid NOT IN (SELECT id FROM products)")  # noqa: S608  # nosec B608 # our name
        return outdated + int(cursor.fetchone()[0])


def _is_intact(using: str) -> bool:
    """Return whether the trigrams in the index are those of its texts."""
    try:
        with connections[using].cursor() as cursor, transaction.atomic(using):
            cursor.execute(f"INSERT INTO {TABLE} ({TABLE}) VALUES ('integrity-check')")  # noqa: S608  # nosec B608 # our name
    except DatabaseError as error:
        logger.warning("The text index is damaged: %s", error)
        return False
    return True


def rebuild(using: str) -> None:
    """Make the index again from the products."""
    with transaction.atomic(using), connections[using].cursor() as cursor:
        if connections[using].vendor == "postgresql":
            _install_postgres(cursor)
        else:
            _install_sqlite(cursor)


def _install_postgres(cursor: Any) -> None:
    cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for name, text in (("title", title("postgresql")), ("body", body("postgresql"))):
        cursor.execute(
            f"CREATE INDEX IF NOT EXISTS product_{name}_trigrams ON products USING gin ({text} gin_trgm_ops)"
        )


def _install_sqlite(cursor: Any) -> None:
    """Create table and triggers again. SQLite drops a table's triggers when migrate alters it."""
    for name in _TRIGGERS:
        cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
    cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
    cursor.execute(f"CREATE VIRTUAL TABLE {TABLE} USING fts5(title, body, tokenize = 'trigram')")
    cursor.execute(
        f"INSERT INTO {TABLE} (rowid, title, body) "  # noqa: S608  # nosec B608 # our names
        f"SELECT id, {title('sqlite')}, {body('sqlite')} FROM products"
    )
    remove = f"DELETE FROM {TABLE} WHERE rowid = OLD.id;"  # noqa: S608  # nosec B608 # our name
    insert = (
        f"INSERT INTO {TABLE} (rowid, title, body) VALUES (NEW.id, {title('sqlite', 'NEW')}, {body('sqlite', 'NEW')});"  # noqa: S608  # nosec B608 # our names
    )
    changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in ("id", *_WATCHED))
    inserted, updated, deleted = _TRIGGERS
    cursor.execute(f"CREATE TRIGGER {inserted} AFTER INSERT ON products BEGIN {insert} END")
    cursor.execute(
        f"CREATE TRIGGER {updated} AFTER UPDATE OF {', '.join(('id', *_WATCHED))} ON products "
        f"WHEN {changed} BEGIN {remove} {insert} END"
    )
    cursor.execute(f"CREATE TRIGGER {deleted} AFTER DELETE ON products BEGIN {remove} END")
