"""The command move_to_postgres: copies a SQLite catalogue completely and verified, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.helpers.attributes import STORED
from tests.helpers.installations import manage

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]

FILL = """
from datetime import date
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone
from gpu.models import EmbeddingWorker, EncoderSource, ModelSwitch, ModelVersion, WorkerSample
from catalogmatch.accounts.models import FirstPassword
from catalogmatch.accounts.tokens import issue_token
from matching.models import DeletedProduct, KeptDecision, KeptVerdict, Match, ModelJob
from matching.models import Calibration, EvidenceMark, Policy, PolicyCase, ProductAnswer, ReviewLease, SavedFilter
from matching.models import SecondOpinion, SelfAudit
from matching.review import verdicts
from products.models import ColumnChoice, Deletion, EmbeddingDay, FetchedAddress, ImageDownload, Import, Product
from products.models import Barcode, ProductImage
from products.models import PreferenceChange, ProductMerge, QueueSwitch, SameAs
from tests.helpers.vectors import add_products, embeddings, random_vectors, legacy_features
reviewer = User.objects.create_user("rita", password="x")
reviewer.groups.set(Group.objects.all())
vectors = random_vectors(60, dim=512)
products = add_products(embeddings(vectors), category="mugs ☕")
Product.objects.filter(pk=products[0].pk).update(attributes={"größe": [1, 2.5, None]}, is_historical=False)
match = Match.objects.create(product=products[0], candidate=products[1], similarity_score=80.125,
                             feature_type="clip", model_name="m", rank=1)
verdicts.set_verdict(match.pk, "confirmed", reviewer, "yes, it's 100% this one")

# And a row of every other table, since each is to arrive.
now = timezone.now()
reviewer.user_permissions.add(Permission.objects.first())
issue_token(reviewer)
FirstPassword.objects.create(user=reviewer)
LogEntry.objects.log_actions(reviewer.pk, Product.objects.filter(pk=products[0].pk), 2)
Product.objects.get(pk=products[2].pk).save()
ProductImage.objects.first().save()
Barcode.objects.create(image=ProductImage.objects.first(), number="04006381333931", removed_at=now, removed_by=reviewer)
ReviewLease.objects.create(product=products[0], reviewer=reviewer, taken_at=now)
job = Import.objects.create(user=reviewer, table_name="new.csv", state="checked", counts={"CREATED": 2})
ImageDownload.objects.create(import_job=job, key="0" * 64, sku="A", address="https://example.com/ä.jpg",
                             host="example.com", row_number=2, fields={"name": "größe"})
ColumnChoice.objects.create(header="3" * 64, chosen={"Nr": "sku"})
FetchedAddress.objects.create(key="1" * 64, etag='"7"', sha256="2" * 64)
deletion = Deletion.objects.create(user=reviewer, label="products.product", total=1)
deletion.steps.create(ids=[products[3].pk])
QueueSwitch.objects.create(paused=True, changed_at=now, changed_by=reviewer)
EmbeddingDay.objects.create(day=date(2026, 1, 31), pictures=60)
SameAs.objects.get_or_create(product=products[0], other=products[1])
ProductMerge.objects.create(old_id=9_999, old_sku="OLD", kept=products[1], merged_at=now, merged_by=reviewer,
                            before={"n": 1})
PreferenceChange.objects.create(name="matching.limit", value=20, changed_at=now, changed_by=reviewer)
worker = EmbeddingWorker.objects.create(name="host 1", started_at=now, heartbeat_at=now, device="cpu")
WorkerSample.objects.create(worker=worker, taken_at=now, memory_gb=1.5)
ModelVersion.objects.create(name="head-1", parts=[], matrices=b"\\x00\\x01", dim=2, score_floor=0.25, report={"n": 0.1})
ModelSwitch.objects.create(version="head-1", switched_by=reviewer)
EncoderSource.objects.create(name="clip@12345678", source="/srv/models/clip")
Calibration.objects.create(model_name="head-1", parameters={"none": 6.25}, statistics=b"\\x00\\x01", adopted=True)
SavedFilter.objects.create(user=reviewer, name="mugs", query="?category=mugs")
SecondOpinion.objects.create(product=products[0], first={"kind": "new", "candidates": []}, first_reviewer=reviewer)
ProductAnswer.objects.create(product=products[0], answer="same", not_in_catalogue=0.25, answered_at=now)
Product.objects.create(name="the last id, which no later product gets").delete()
DeletedProduct.objects.create(former_id=999, sku="GONE", deleted_at=now).images.create(sha256="4" * 64)
KeptDecision.objects.create(former_id=7, product_id=999, kind="new", note="größer", reviewer=reviewer, decided_at=now)
KeptVerdict.objects.create(former_id=8, product_id=999, candidate_id=products[1].pk, similarity_score=70, rank=1,
                           feature_type="clip", model_name="m", review_status="rejected", reviewed_at=now)
policy = Policy.objects.create(category="Lamps", confirms=True, paused_because="ä")
PolicyCase.objects.create(product=products[0], policy=policy, kind="same", candidate=products[1].pk, probability=0.99,
                          promise=0.98, is_audit=True, handled_at=now)
mark = EvidenceMark.objects.create(product=products[0], candidate=products[1], kind="identifier", text="ä",
                                   marked_by=reviewer, marked_at=now)
SelfAudit.objects.create(model_name="m", expected=2, found=1, left_out=2, false_alarms=0, report={"missed": [1]},
                         is_done=True, made_at=now)
ModelJob.objects.create(kind="compare", user=reviewer, state="done", options={"a": "x", "b": "y"}, report={"n": 0.1})
"""
NOT_MOVED = {"django_migrations", "django_session", "index_changes"}  # docs/scaling.md says why
TEXT_INDEX = "product_text"  # and the tables in which SQLite keeps it; PostgreSQL has an index of its own


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a PostgreSQL server. Return its DATABASE_URL. Without a server, skip the test, or fail in CI."""
    postgres.require_server()
    with postgres.running() as url:
        yield url


@pytest.fixture
def target(server: str) -> str:
    """Return an empty and migrated database."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS target")
        connection.execute("CREATE DATABASE target")
    return server.rsplit("/", 1)[0] + "/target"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Create a small SQLite catalogue with a verdict. Return its file."""
    for command in (["migrate", "-v0"], ["shell", "-v0", "-c", FILL]):
        done = manage(tmp_path, *command, DATABASE_URL=f"sqlite:///{tmp_path / 'catalogmatch.sqlite3'}")
        assert done.returncode == 0, done.stderr
    return tmp_path / "catalogmatch.sqlite3"


def test_catalogue_is_copied_completely(tmp_path, old, target):
    assert manage(tmp_path, "migrate", "-v0", DATABASE_URL=target).returncode == 0

    moved = manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target)

    assert moved.returncode == 0, moved.stderr
    assert "features: 60 rows" in moved.stdout
    assert "600 of 600 results are the same before and after" in moved.stdout
    with psycopg.connect(target) as connection:
        unchecked = connection.execute("SELECT count(*) FROM features WHERE checksum IS NULL").fetchone()
        assert unchecked == (0,)
        verdict = connection.execute(
            "SELECT review_status, note, username FROM matches JOIN auth_user ON auth_user.id = reviewer_id"
        ).fetchone()
        assert verdict == ("confirmed", "yes, it's 100% this one", "rita")
        verdicts = connection.execute(
            "SELECT review_status, history_type, username FROM match_history"
            " JOIN auth_user ON auth_user.id = history_user_id"
        ).fetchall()
        assert verdicts == [("confirmed", "~", "rita")]
        assert connection.execute("SELECT attributes FROM products ORDER BY id LIMIT 1").fetchone() == (
            {"größe": [1, 2.5, None]},
        )
        # New rows get ids after those of the copied rows, and of deleted ones.
        ahead = connection.execute(
            "SELECT nextval(pg_get_serial_sequence('products', 'id')) - max(id) FROM products"
        ).fetchone()
        assert ahead == (2,)
        kept = connection.execute("SELECT kind, note FROM kept_decisions").fetchall()
        assert kept == [("new", "größer")]
    again = manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target)
    assert again.returncode == 1
    assert "already holds products" in again.stderr


OLDER = """
import json
from django.db import connection
from products.models import Product
ids = list(Product.objects.order_by("pk").values_list("pk", flat=True))
texts = {stored}
with connection.cursor() as cursor:
    for pk, text in zip(ids, texts):
        Product.history.filter(id=pk).delete()
        product = Product.objects.get(pk=pk)
        product.name = "changed"
        product.save()  # writes the history
        for table in ("products", "product_history"):
            cursor.execute(f"UPDATE {table} SET attributes = %s WHERE id = %s", [text, pk])
"""
# Values that the schema refuses, and numbers that PostgreSQL writes in another way.
CARRIED = [
    STORED["940 levels"], STORED["2.5 MB"], STORED["many entries"], STORED["endless number"], STORED["null"],
    STORED["text"], STORED["a list of 940 levels"], '{"a": 1e400, "a": 1e400}', '{"b": 1e16, "a": -0.0, "": 1e-7}',
]  # fmt: skip


def test_attributes_that_break_the_schema_are_copied_unchanged(tmp_path, old, target):
    database = f"sqlite:///{old}"
    (tmp_path / "fill.py").write_text(OLDER.replace("{stored}", repr(CARRIED)))  # too long for an argument
    fill = f"exec(open({str(tmp_path / 'fill.py')!r}).read())"
    filled = manage(tmp_path, "shell", "-v0", "-c", fill, DATABASE_URL=database)
    assert filled.returncode == 0, filled.stderr
    assert manage(tmp_path, "migrate", "-v0", DATABASE_URL=target).returncode == 0

    moved = manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target)

    assert moved.returncode == 0, moved.stderr
    with psycopg.connect(target) as connection:
        connection.execute("DELETE FROM product_history WHERE name <> 'changed'")
        for table in ("products", "product_history"):
            same = connection.execute(
                f"SELECT attributes = given.text::jsonb FROM {table} JOIN unnest(%s::text[]) WITH ORDINALITY"
                f" AS given (text, number) ON number = id - (SELECT min(id) FROM products) + 1 ORDER BY number",
                [CARRIED],
            ).fetchall()
            assert same == [(True,)] * len(CARRIED), table


def test_value_that_postgresql_cannot_store_is_one_clear_sentence(tmp_path, old, target):
    with sqlite3.connect(old) as before:
        before.execute(r"""UPDATE products SET attributes = '{"a": "\ud83d"}' WHERE id = 1""")
    assert manage(tmp_path, "migrate", "-v0", DATABASE_URL=target).returncode == 0

    moved = manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target)

    assert moved.returncode == 1
    assert "PostgreSQL cannot store a row of products" in moved.stderr
    assert "Traceback" not in moved.stderr
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT count(*) FROM products").fetchone() == (0,)


def test_every_table_is_copied_or_listed_as_left_out(tmp_path, old, target):
    assert manage(tmp_path, "migrate", "-v0", DATABASE_URL=target).returncode == 0
    assert manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target).returncode == 0
    with sqlite3.connect(old) as before, psycopg.connect(target) as after:
        found = before.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for table in sorted({name for (name,) in found if not name.startswith(TEXT_INDEX)} - NOT_MOVED):
            count = f"SELECT count(*) FROM {table}"
            rows = before.execute(count).fetchone()
            assert rows != (0,), f"give {table} a row here, so that its move is tested"
            assert after.execute(count).fetchone() == rows, table


def test_nothing_is_copied_if_the_verification_fails(tmp_path, old, target):
    assert manage(tmp_path, "migrate", "-v0", DATABASE_URL=target).returncode == 0
    with psycopg.connect(target) as connection:
        connection.execute(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.name := 'changed on the way'; RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER change BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION change()")

    moved = manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target)

    assert moved.returncode == 1
    assert "The rows of products are not the same" in moved.stderr
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT count(*) FROM products").fetchone() == (0,)


def test_catalogue_of_another_version_is_rejected(tmp_path, old, target):
    assert manage(tmp_path, "migrate", "-v0", DATABASE_URL=target).returncode == 0
    with sqlite3.connect(old) as connection:
        connection.execute("DELETE FROM django_migrations WHERE app = 'matching' AND name LIKE '0001%'")

    moved = manage(tmp_path, "move_to_postgres", str(old), DATABASE_URL=target)

    assert moved.returncode == 1
    assert "migrate" in moved.stderr


def test_source_must_be_sqlite_and_target_postgresql(tmp_path, target):
    assert (
        "Set DATABASE_URL" in manage(tmp_path, "move_to_postgres", "x", DATABASE_URL=f"sqlite:///{tmp_path}/old").stderr
    )
    assert "There is no SQLite catalogue" in manage(tmp_path, "move_to_postgres", "x", DATABASE_URL=target).stderr
