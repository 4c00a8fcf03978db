"""An installation from before the history: what is there gets a first entry, so that the next change reads right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import postgres
from tests.installations import manage

# There and back: a fresh database that stops half-way would lack what the roles are made of.
BEFORE: tuple[list[str], ...] = ([], ["products", "0002"], ["matching", "0004"])

# As the program of that time would have written them, whatever columns the tables have had since.
FILL = """
from django.contrib.auth.models import User
from django.db import connection
user = User.objects.create_user("rita")
at = "2025-03-01 12:00:00+00:00"
with connection.cursor() as cursor:
    for key, historical in ((1, False), (2, True)):
        cursor.execute(
            "INSERT INTO products (id, sku, name, category, description, is_historical, attributes, created_at,"
            " updated_at) VALUES (%s, %s, 'Mug', '', '', %s, '{\\"colour\\": \\"red\\"}', %s, %s)",
            [key, f"A-{key}", historical, at, at],
        )
    cursor.execute(
        "INSERT INTO matches (product_id, candidate_id, similarity_score, feature_type, model_name, rank,"
        " review_status, reviewer_id, reviewed_at, note, created_at, updated_at)"
        " VALUES (1, 2, 88, 'legacy', 'm', 1, 'confirmed', %s, %s, 'same', %s, %s)",
        [user.pk, "2025-03-02 12:00:00+00:00", at, at],
    )
"""

TELL = """
from django.contrib.auth.models import User
from matching import service
from matching.models import Match
from core.history.timeline import read_timeline
from products.images import intake
from products.models import Product
intake.change_product(Product.objects.get(pk=1), {"name": "Big mug", "attributes": {"colour": "blue"}})
service.review_all(Match.objects.all(), "rejected", User.objects.get())
for entry in read_timeline([Product.history.filter(id=1), Match.history.all()]).entries:
    changes = ", ".join(f"{change.name} {change.old}>{change.new}" for change in entry.changes)
    who = entry.record.history_user and entry.record.history_user.username
    print(f"{entry.at.year > 2025} {who} {entry.source}: {changes}")
"""


def told(folder: Path, url: str) -> list[str]:
    for target in BEFORE:
        assert manage(folder, "migrate", "-v0", *target, DATABASE_URL=url).returncode == 0
    filled = manage(folder, "shell", "-v0", "-c", FILL, DATABASE_URL=url)
    assert filled.returncode == 0, filled.stderr
    migrated = manage(folder, "migrate", "-v0", DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stderr
    done = manage(folder, "shell", "-v0", "-c", TELL, DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


EXPECTED = [
    "True rita command: verdict confirmed>rejected",
    "True None command: name Mug>Big mug, colour red>blue",
    "False rita before this was recorded: verdict pending>confirmed, note >same",
    "False None before this was recorded: SKU >A-1, name >Mug, colour >red",
]


def test_what_was_there_gets_a_first_entry(tmp_path: Path) -> None:
    assert told(tmp_path, f"sqlite:///{tmp_path / 'catalogmatch.sqlite3'}") == EXPECTED


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_what_was_there_gets_a_first_entry_in_postgresql(tmp_path: Path) -> None:
    postgres.need()
    with postgres.running() as url:
        assert told(tmp_path, url) == EXPECTED
