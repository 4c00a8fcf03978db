"""Triggers that reject infinite and NaN numbers in vectors, and zero embeddings.

No column can declare this. The triggers are installed after every migrate, because SQLite drops a table's triggers
when it alters the table. Each insert checks the exponent bytes of all numbers, which takes about 0.25 ms for 512
numbers.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

_MESSAGE = "feature_vector_usable: the vector is zero or has numbers that are not finite"
_EVENTS = {"inserted": "INSERT", "updated": "UPDATE OF kind, color_features, shape_features"}
_NAMES = {event: f"feature_vector_{event}" for event in _EVENTS}

# A little-endian float32 is infinite or not a number when all eight bits of its exponent are set.
_SQLITE = f"""BEGIN
    SELECT RAISE(ABORT, '{_MESSAGE}')
    WHERE NEW.kind <> 'legacy' AND NEW.color_features = zeroblob(length(NEW.color_features)) OR EXISTS (
        WITH RECURSIVE
            vector(bytes) AS (SELECT CASE NEW.kind WHEN 'legacy' THEN NEW.shape_features ELSE NEW.color_features END),
            ends(at) AS (SELECT 4 UNION ALL SELECT at + 4 FROM ends, vector WHERE at + 4 <= length(bytes))
        SELECT 1 FROM ends, vector WHERE substr(bytes, at, 1) IN (x'7F', x'FF') AND substr(bytes, at - 1, 1) >= x'80');
    END"""  # noqa: S608  # nosec B608 # our message
_POSTGRES = f"""CREATE OR REPLACE FUNCTION feature_vector_usable() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE vector bytea := CASE NEW.kind WHEN 'legacy' THEN NEW.shape_features ELSE NEW.color_features END;
BEGIN
    IF NEW.kind <> 'legacy' AND vector = decode(repeat('00', length(vector)), 'hex') OR EXISTS (
        SELECT 1 FROM generate_series(3, length(vector) - 1, 4) AS at
        WHERE get_byte(vector, at) & 127 = 127 AND get_byte(vector, at - 1) >= 128)
    THEN RAISE check_violation USING MESSAGE = '{_MESSAGE}'; END IF;
    RETURN NEW;
END $$"""  # noqa: S608  # nosec B608 # our message


def install_triggers(using: str, **_: Any) -> None:
    """Create or replace the triggers. An invalid vector then raises IntegrityError."""
    connection = connections[using]
    if "features" not in connection.introspection.table_names():
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_POSTGRES)
        for event, name in _NAMES.items():
            cursor.execute(
                f"DROP TRIGGER IF EXISTS {name}{' ON features' if connection.vendor == 'postgresql' else ''}"
            )
            body = _SQLITE if connection.vendor == "sqlite" else "EXECUTE FUNCTION feature_vector_usable()"
            cursor.execute(f"CREATE TRIGGER {name} BEFORE {_EVENTS[event]} ON features FOR EACH ROW {body}")


def drop_triggers(using: str) -> None:
    """Drop the triggers, for a repair or a test that needs invalid vectors."""
    with connections[using].cursor() as cursor:
        for name in _NAMES.values():
            cursor.execute(f"DROP TRIGGER {name}{' ON features' if connections[using].vendor == 'postgresql' else ''}")


def missing_triggers(using: str) -> set[str]:
    """Return the names of the triggers that are missing."""
    with connections[using].cursor() as cursor:
        if connections[using].vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute("SELECT tgname FROM pg_trigger")
        return set(_NAMES.values()) - {row[0] for row in cursor.fetchall()}
