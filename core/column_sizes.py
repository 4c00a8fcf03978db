"""Sizes of text and JSON columns, computed by the database."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from django.db.models import F, Func, IntegerField, Value


class TextBytes(Func):
    """The size of a text or JSON column in bytes, on every database."""

    template = "OCTET_LENGTH(CAST(%(expressions)s AS text))"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context)


def text_bytes(columns: Iterable[str], plus: int = 0) -> Any:
    """Return an expression for the size of these text and JSON columns of a row, plus a number of bytes."""
    return reduce(add, (TextBytes(F(column)) for column in columns), Value(plus))
