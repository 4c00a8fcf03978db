"""The change log of the index: its triggers, reading from a revision on, and pruning.

Triggers catch what signals miss: bulk updates, cascades and SQL by hand. SQLite commits one writer at a time, so ids
rise in the order of the commits. Reading all rows after the last id misses nothing.
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
    # UNION drops duplicates: two rows only if the feature moves to another kind or model.
    "index_feature_updated": f"""AFTER UPDATE OF {", ".join(_WATCHED)} ON features
        WHEN {" OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in _WATCHED)} BEGIN
        {_LOG} SELECT id, product, kind, model, random() FROM (
            SELECT OLD.id AS id, NEW.product_id AS product, OLD.kind AS kind, OLD.model_name AS model
            UNION SELECT NEW.id, NEW.product_id, NEW.kind, NEW.model_name);
        END""",  # noqa: S608  # nosec B608 # our names
    "index_product_updated": f"""AFTER UPDATE OF is_historical, category ON products
        WHEN OLD.is_historical IS NOT NEW.is_historical OR OLD.category IS NOT NEW.category BEGIN
        {_LOG} VALUES (NULL, NEW.id, '', '', random());
        END""",
    # The images of a new product count as catalogue images once it is confirmed to be a catalogue product.
    "index_match_inserted": f"""AFTER INSERT ON matches WHEN NEW.review_status = 'confirmed' BEGIN
        {_LOG} VALUES (NULL, NEW.product_id, '', '', random());
        END""",  # noqa: S608
    "index_match_updated": f"""AFTER UPDATE OF review_status ON matches
        WHEN (OLD.review_status = 'confirmed') <> (NEW.review_status = 'confirmed') BEGIN
        {_LOG} VALUES (NULL, NEW.product_id, '', '', random());
        END""",
    # Also if its decision is given another time and then makes its images views, or no longer.
    "index_decision_updated": f"""AFTER UPDATE OF images_are_views ON decisions
        WHEN OLD.images_are_views IS NOT NEW.images_are_views BEGIN
        {_LOG} VALUES (NULL, NEW.product_id, '', '', random());
        END""",
    "index_match_deleted": f"""AFTER DELETE ON matches WHEN OLD.review_status = 'confirmed' BEGIN
        {_LOG} VALUES (NULL, OLD.product_id, '', '', random());
        END""",
}


@dataclass(frozen=True, slots=True)
class Revision:
    """A position in the log: the last row that was read, with its token."""

    id: int
    token: int


@dataclass(frozen=True, slots=True)
class Changes:
    """The distinct ids of features and products that changed since a revision."""

    features: Ids
    products: Ids


def install_triggers(using: str, **_: Any) -> None:
    """Create the triggers again. SQLite drops a table's triggers when migrate alters it."""
    connection = connections[using]
    tables = {"features", "products", "matches", "decisions", IndexChange._meta.db_table}
    if connection.vendor != "sqlite" or not tables <= set(connection.introspection.table_names()):
        return
    with connection.cursor() as cursor:
        for name, body in _TRIGGERS.items():
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
            cursor.execute(f"CREATE TRIGGER {name} {body}")


def missing_triggers() -> set[str]:
    """Return the names of missing triggers. Without them the index misses changes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        return set(_TRIGGERS) - {row[0] for row in cursor.fetchall()}


def latest_revision() -> Revision:
    """Return the newest revision, or (0, 0) for an empty log."""
    with connection.cursor() as cursor:  # runs before every search; the ORM would cost more than the query
        cursor.execute("SELECT id, token FROM index_changes ORDER BY id DESC LIMIT 1")
        row = cursor.fetchone()
    return Revision(*row) if row else Revision(0, 0)


def is_known(revision: Revision) -> bool:
    """Return whether the log still contains the revision, so that reading can go on from it."""
    return IndexChange.objects.filter(id=revision.id, token=revision.token).exists()


def between(since: Revision, until: Revision, kind: str, model: str) -> Changes:
    """Return what changed for one kind and model after ``since``, up to ``until``."""
    rows = IndexChange.objects.filter(id__gt=since.id, id__lte=until.id)
    rows = rows.filter(Q(kind=kind, model_name=model) | Q(kind=""))
    pairs = list(rows.values_list("feature_id", "product_id"))
    features = {feature for feature, _ in pairs if feature is not None}
    products = {product for feature, product in pairs if feature is None}
    return Changes(np.array(sorted(features), np.int64), np.array(sorted(products), np.int64))


def count(since: Revision, kind: str, model: str) -> int:
    """Count the changes to features of one kind and model after ``since``.

    A feature that changed twice may count twice.
    """
    return IndexChange.objects.filter(id__gt=since.id, kind=kind, model_name=model).count()


def prune(before: int) -> int:
    """Delete the rows below id ``before`` but never the newest row. Return how many."""
    return IndexChange.objects.filter(id__lt=min(before, latest_revision().id)).delete()[0]
