"""The change log: installed as triggers, read from where a process left off, pruned behind everybody.

Triggers catch what signals miss: bulk updates, cascades and SQL by hand. SQLite commits one writer at a time, so
the log's ids appear in the order of the commits and "everything after the last id that I read" misses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection, connections
from django.db.models import Q

from matching.index.models import IndexChange
from matching.index.types import Ids

_WATCHED = ("product_id", "image_id", "kind", "model_name", "color_features", "shape_features", "texture_features")
_LOG = "INSERT INTO index_changes (feature_id, product_id, kind, model_name, token)"
_TRIGGERS = {
    "index_feature_inserted": f"""AFTER INSERT ON features BEGIN
        {_LOG} VALUES (NEW.id, NEW.product_id, NEW.kind, NEW.model_name, random());
        END""",  # noqa: S608
    "index_feature_deleted": f"""AFTER DELETE ON features BEGIN
        {_LOG} VALUES (OLD.id, OLD.product_id, OLD.kind, OLD.model_name, random());
        END""",
    # The UNION logs once what stays in its kind and model, and twice what moves to another.
    "index_feature_updated": f"""AFTER UPDATE OF {", ".join(_WATCHED)} ON features
        WHEN {" OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in _WATCHED)} BEGIN
        {_LOG} SELECT id, product, kind, model, random() FROM (
            SELECT OLD.id AS id, NEW.product_id AS product, OLD.kind AS kind, OLD.model_name AS model
            UNION SELECT NEW.id, NEW.product_id, NEW.kind, NEW.model_name);
        END""",  # noqa: S608
    "index_product_updated": f"""AFTER UPDATE OF is_historical, category ON products
        WHEN OLD.is_historical IS NOT NEW.is_historical OR OLD.category IS NOT NEW.category BEGIN
        {_LOG} VALUES (NULL, NEW.id, '', '', random());
        END""",
}


@dataclass(frozen=True, slots=True)
class Revision:
    """A place in the log: everything up to row ``id`` has been read, and that row carried ``token``."""

    id: int
    token: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a revision: ids of features and of products, each once."""

    features: Ids
    products: Ids


def install_triggers(using: str, **_: Any) -> None:
    """Create the triggers anew after every migrate: SQLite drops a table's triggers when it alters the table."""
    connection = connections[using]
    tables = {"features", "products", IndexChange._meta.db_table}
    if connection.vendor != "sqlite" or not tables <= set(connection.introspection.table_names()):
        return
    with connection.cursor() as cursor:
        for name, body in _TRIGGERS.items():
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
            cursor.execute(f"CREATE TRIGGER {name} {body}")


def missing_triggers() -> set[str]:
    """Names of the triggers that are not there; with one missing, changes are not seen until the next start."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        return set(_TRIGGERS) - {row[0] for row in cursor.fetchall()}


def latest_revision() -> Revision:
    """The newest place in the log."""
    with connection.cursor() as cursor:  # before every search: building the query would cost more than running it
        cursor.execute("SELECT id, token FROM index_changes ORDER BY id DESC LIMIT 1")
        newest = cursor.fetchone()
    return Revision(*newest) if newest else Revision(0, 0)


def is_known(revision: Revision) -> bool:
    """Whether the log can be read on from ``revision``: its row is there and is the one that was read."""
    return IndexChange.objects.filter(id=revision.id, token=revision.token).exists()


def between(since: Revision, until: Revision, kind: str, model: str) -> Changes:
    """What changed for one kind and model after ``since``, up to ``until``."""
    rows = IndexChange.objects.filter(id__gt=since.id, id__lte=until.id)
    rows = rows.filter(Q(kind=kind, model_name=model) | Q(kind=""))
    pairs = list(rows.values_list("feature_id", "product_id"))
    features = {feature for feature, _ in pairs if feature is not None}
    products = {product for feature, product in pairs if feature is None}
    return Changes(np.array(sorted(features), np.int64), np.array(sorted(products), np.int64))


def count(since: Revision, kind: str, model: str) -> int:
    """How many features of one kind and model changed after ``since``; one that changed twice may count twice."""
    return IndexChange.objects.filter(id__gt=since.id, kind=kind, model_name=model).count()


def prune(before: int) -> int:
    """Delete the rows below id ``before``; the newest row always stays. Answers how many went."""
    return IndexChange.objects.filter(id__lt=min(before, latest_revision().id)).delete()[0]
