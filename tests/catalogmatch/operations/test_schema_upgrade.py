"""Databases from before the migrations were squashed: the newest are migrated, older ones are rejected."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.helpers.installations import manage

# A backup made by the last version before the squash, with products, images, a verdict, a token and jobs.
BACKUP = Path(__file__).parent / "fixtures" / "backup-of-1.0.0.zip"

SHOW = """
from core.history.timeline import read_timeline
from matching.models import Decision, Match, ReviewLease
from products.models import Deletion, Import, Product
match = Match.objects.get(review_status="confirmed")
print(Product.objects.count(), match.note, match.reviewer)
made = Decision.objects.get()
print(made.kind, made.candidates == [match.candidate_id], made.reviewer, made.decided_at == match.reviewed_at)
print(sorted(set(made.product.matches.values_list("review_status", flat=True))), match.pk in made.settled)
print(Import.objects.get().user, Deletion.objects.get().user, ReviewLease.objects.get().product)
print([entry.record.name for entry in read_timeline([Product.history.filter(sku="OLD-0")]).entries])
"""


@pytest.fixture
def backup(tmp_path):
    with zipfile.ZipFile(BACKUP) as archive:
        archive.extractall(tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def old_database(tmp_path, backup):
    """Return an installation with a database of the last version before the squash."""
    folder = tmp_path / "installation"
    assert manage(folder, "restore", str(backup)).returncode == 0
    return folder


def database_of(folder: Path) -> Path:
    (path,) = folder.rglob("*.sqlite3")
    return path


def test_backup_of_the_old_schema_is_restored_and_works(old_database):
    migrated = manage(old_database, "migrate", "-v1")
    assert migrated.returncode == 0, migrated.stderr
    applied = re.findall(r"Applying (\w+\.\w+)", migrated.stdout)
    assert "accounts.0001_tokens" in applied
    assert not [name for name in applied if name.endswith("_initial")]
    shown = manage(old_database, "shell", "-v0", "--no-imports", "-c", SHOW)
    assert shown.stdout.splitlines() == [
        "5 the same mug reviewer",
        "same True reviewer True",
        "['confirmed'] True",
        "reviewer reviewer New mug 1",
        "['Renamed mug', 'Old mug 0']",
    ], shown.stderr
    unchecked = manage(old_database, "verify")
    assert unchecked.returncode == 3, unchecked.stdout + unchecked.stderr
    assert len(re.findall("checksum.* because an earlier version stored them", unchecked.stdout)) == 2
    for options in (["--fix"], []):
        verified = manage(old_database, "verify", *options)
        assert verified.returncode == 0, verified.stdout + verified.stderr


ACCESS = """
from rest_framework.test import APIClient
from catalogmatch.accounts.models import Token
client = APIClient(SERVER_NAME="127.0.0.1")
for key in (64 * "a", 64 * "b", 64 * "c"):
    for word in ("Token", "Bearer"):
        print(client.get("/api/products", headers={"Authorization": f"{word} {key}"}).status_code)
print([(one.algorithm, one.key_start, one.user.username, one.state) for one in Token.objects.order_by("created_at")])
"""


def test_tokens_created_by_knox_still_work(old_database):
    path = database_of(old_database)
    with sqlite3.connect(path) as database:
        row = "INSERT INTO knox_authtoken (digest, token_key, created, user_id, expiry) VALUES (?, ?, ?, 1, ?)"
        for letter, expiry in (("a", None), ("b", "2026-11-24 00:00:00")):
            key = 64 * letter
            digest = hashlib.sha512(key.encode()).hexdigest()
            database.execute(row, [digest, key[:15], f"2026-11-2{5 if letter == 'a' else 6} 23:59:59", expiry])
    assert manage(old_database, "migrate", "-v0").returncode == 0
    shown = manage(old_database, "shell", "-v0", "--no-imports", "-c", ACCESS)
    *statuses, stored = shown.stdout.splitlines()
    assert statuses == ["200", "200", "401", "401", "401", "401"], shown.stderr
    assert stored == str([
        ("sha512", "bb446d51", "reviewer", "active"),
        ("sha512", 8 * "a", "reviewer", "active"),
        ("sha512", 8 * "b", "reviewer", "expired"),
    ])  # fmt: skip
    with sqlite3.connect(path) as database:
        assert not database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%knox%'").fetchall()
        assert not database.execute("SELECT name FROM django_migrations WHERE app = 'knox'").fetchall()
        assert not database.execute("SELECT id FROM django_content_type WHERE app_label = 'knox'").fetchall()
        assert not database.execute("PRAGMA foreign_key_check").fetchall()


def test_squashed_migrations_make_the_same_schema_as_the_old_ones(tmp_path, old_database):
    assert manage(old_database, "migrate", "-v0").returncode == 0
    assert manage(tmp_path / "new", "migrate", "-v0").returncode == 0
    old, new = (schema_of(database_of(folder)) for folder in (old_database, tmp_path / "new"))
    assert old == new


def schema_of(path: Path) -> dict[str, object]:
    """Return the columns and foreign keys of each table in any order, and the SQL of each index and trigger."""
    schema: dict[str, object] = {}
    with sqlite3.connect(path) as database:
        entries = database.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for kind, name, sql in entries:
            if kind == "table":
                columns = database.execute(
                    'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', [name]
                )
                keys = database.execute(
                    'SELECT "table", "from", "to", on_delete FROM pragma_foreign_key_list(?)', [name]
                )
                constraints = sorted(part.split('"')[1] for part in sql.split("CONSTRAINT ")[1:])
                schema[name] = (sorted(columns), sorted(keys), constraints)
            else:
                schema[name] = " ".join((sql or "").split())
    return schema


def test_older_database_gets_one_sentence_that_says_what_to_do(old_database):
    with sqlite3.connect(database_of(old_database)) as database:
        database.execute("DELETE FROM django_migrations WHERE app = 'products' AND name = '0009_deletions'")
    for command in ("migrate", "doctor", "verify"):
        ended = manage(old_database, command)
        assert ended.returncode != 0
        assert "has the migration products.0009_deletions" in ended.stdout + ended.stderr, command
        assert "Traceback" not in ended.stderr


def test_backup_of_an_older_database_is_not_restored(tmp_path, backup):
    manifest = backup / "manifest.json"
    manifest.write_text(manifest.read_text().replace('    "matching.0009_indexes_by_verdict",\n', ""))
    ended = manage(tmp_path / "installation", "restore", str(backup))
    assert ended.returncode != 0
    assert "has the migration matching.0009_indexes_by_verdict" in ended.stderr
    assert schema_of(database_of(tmp_path / "installation")) == {}
