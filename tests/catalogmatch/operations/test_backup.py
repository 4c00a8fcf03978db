"""Backups are complete or absent, show one moment, and are checked before a restore."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings
from tqdm import tqdm

from catalogmatch.operations import backup
from core.progress import ProgressBar
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product, ProductImage
from products.queue.embed import embed_pending
from tests.helpers.attributes import STORED
from tests.helpers.files import files_in
from tests.helpers.installations import manage
from tests.helpers.sample_images import jpeg

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="looks into the copied file; see test_backup_postgres"),
]


def bar(on_update: Callable[[], object] = lambda: None) -> ProgressBar:
    """Return a progress bar that draws nothing and calls ``on_update`` at each step."""

    class SilentBar(tqdm):  # type: ignore[type-arg]
        def update(self, n: float | None = 1) -> bool | None:
            on_update()
            return None

    return lambda total, what, unit: SilentBar(total=total, disable=True)


def upload(seed: int) -> ProductImage:
    return add_product([Upload(jpeg(seed))], sku=f"S-{seed}").images[0]


def name_of(image: ProductImage) -> str:
    return str(image.file.name)


def names_in(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "database.sqlite3")) as copy:
        return {name for (name,) in copy.execute("SELECT file FROM product_images")}


def checksums_of(folder: Path) -> str:
    return (folder / "SHA256SUMS").read_text()


def test_backup_holds_the_database_all_images_and_checksums(tmp_path: Path, media: Path) -> None:
    image = upload(1)
    embed_pending()
    manifest = backup.take_backup(tmp_path / "b", bar())
    assert manifest["counts"]["products"] == 1
    assert manifest["index"]["vectors"] == [{"kind": "legacy", "model": "legacy-1", "count": 1}]
    assert files_in(tmp_path / "b" / "media") == files_in(media)
    assert (tmp_path / "b" / "media" / name_of(image)).read_bytes() == Path(image.file.path).read_bytes()
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path / "b").returncode == 0


def test_backup_holds_the_originals_if_they_are_kept(tmp_path: Path, settings: Settings) -> None:
    settings.ORIGINALS_ROOT = tmp_path / "originals"
    upload(1)
    settings.KEEP_ORIGINALS = True
    upload(2)
    assert backup.take_backup(tmp_path / "b", bar())["absent"] == []
    [original] = (tmp_path / "b" / "originals").glob("*/*")
    assert original.read_bytes() == jpeg(2)


def test_image_deleted_during_the_backup_is_not_reported_as_missing(tmp_path: Path) -> None:
    images = [upload(seed) for seed in range(4)]
    deleted_image = max(images, key=name_of)  # files are copied in the order of their names, so this is the last

    def delete() -> None:
        Product.objects.filter(pk=deleted_image.product_id).delete()

    manifest = backup.take_backup(tmp_path / "b", bar(delete))
    assert manifest["absent"] == []
    assert names_in(tmp_path / "b") == {image.file.name for image in images if image != deleted_image}
    assert name_of(deleted_image) not in checksums_of(tmp_path / "b")


def test_image_deleted_after_it_was_copied_is_left_out(tmp_path: Path) -> None:
    images = sorted((upload(seed) for seed in range(3)), key=name_of)
    steps = iter(range(100))

    def delete() -> None:
        if next(steps) == 2:  # now the first file is copied and the last is not
            Product.objects.filter(pk__in=[images[0].product_id, images[-1].product_id]).delete()

    backup.take_backup(tmp_path / "b", bar(delete))
    assert names_in(tmp_path / "b") == {images[1].file.name}
    assert [name for name in files_in(tmp_path / "b" / "media") if name.startswith("pictures")] == [images[1].file.name]


def test_image_uploaded_during_the_backup_is_complete_or_left_out(tmp_path: Path) -> None:
    upload(0)
    seeds = iter(range(1, 100))
    backup.take_backup(tmp_path / "b", bar(lambda: upload(next(seeds))))
    for name in names_in(tmp_path / "b"):
        assert f"  media/{name}\n" in checksums_of(tmp_path / "b")


def test_file_that_was_missing_before_the_backup_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = upload(1)
    Path(image.file.path).unlink()
    with pytest.raises(CommandError) as caught:
        call_command("backup", str(tmp_path / "b"))
    assert caught.value.returncode == 3
    assert f"missing: media/{image.file.name}" in capsys.readouterr().err
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["absent"] == [f"media/{image.file.name}"]


def test_backup_to_an_existing_path_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(CommandError, match="exists already") as caught:
        call_command("backup", str(tmp_path / "b"))
    assert caught.value.returncode == 1


def test_failed_backup_leaves_no_files(tmp_path: Path) -> None:
    upload(1)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(backup.BackupError, match="No space left") as caught:
        backup.take_backup(tmp_path / "new" / "b", bar(fail))
    assert caught.value.code == "backup_not_written"
    assert list((tmp_path / "new").iterdir()) == []


def test_restore_never_overwrites_an_installation(tmp_path: Path) -> None:
    upload(1)
    backup.take_backup(tmp_path / "b", bar())
    with pytest.raises(CommandError, match="not empty"):
        call_command("restore", str(tmp_path / "b"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda b: (b / "manifest.json").unlink(), "not a backup"),
        (lambda b: (b / "manifest.json").write_text("[]"), "not a backup"),
        (lambda b: change(b, format=99), "format 99"),
        (lambda b: change(b, migrations=["products.0999_future"]), "newer version"),
        (lambda b: change(b, database="oracle"), "oracle"),
        (lambda b: (b / "SHA256SUMS").write_text(""), "is damaged"),
        (lambda b: next(b.glob("media/pictures/*/*")).write_bytes(b"x"), "is damaged"),
        (lambda b: next(b.glob("media/thumbnails/*/*")).unlink(), "cannot be read"),
        (lambda b: (b / "database.sqlite3").write_bytes(b"x"), "is damaged"),
    ],
)
def test_incomplete_backup_is_rejected(tmp_path: Path, damage: Callable[[Path], object], reason: str) -> None:
    upload(1)
    backup.take_backup(tmp_path / "b", bar())
    call_command("restore", str(tmp_path / "b"), "--check")
    damage(tmp_path / "b")
    with pytest.raises(CommandError, match=reason) as caught:
        call_command("restore", str(tmp_path / "b"), "--check")
    assert caught.value.returncode == 1


def test_nothing_is_restored_from_an_incomplete_backup(tmp_path: Path) -> None:
    upload(1)
    backup.take_backup(tmp_path / "b", bar())
    next((tmp_path / "b").glob("media/pictures/*/*")).write_bytes(b"x")
    restored = manage(tmp_path / "empty", "restore", str(tmp_path / "b"))
    assert restored.returncode == 1
    assert "is damaged" in restored.stderr
    assert files_in(tmp_path / "empty" / "media") == []


def change(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | fields))


def test_attributes_that_break_the_schema_are_backed_up_and_restored_unchanged(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    database = old / "catalogmatch.sqlite3"
    assert manage(old, "migrate", "-v0").returncode == 0
    texts = [text for name, text in STORED.items() if name != "100000 levels"]
    with closing(sqlite3.connect(database)) as rows:
        for pk, text in enumerate(texts, start=1):
            rows.execute(
                "INSERT INTO products (id, sku, name, category, description, gtin, mpn, brand, currency, is_historical,"
                " attributes, created_at, updated_at)"
                " VALUES (?, '', '', '', '', '', '', '', '', 0, ?, '2026-01-01', '2026-01-01')",
                [pk, text],
            )
        rows.commit()
    assert manage(old, "backup", str(tmp_path / "b")).returncode == 0

    restored = manage(new, "restore", str(tmp_path / "b"))

    assert restored.returncode == 0, restored.stderr
    with closing(sqlite3.connect(new / "catalogmatch.sqlite3")) as rows:
        assert [text for (text,) in rows.execute("SELECT attributes FROM products ORDER BY id")] == texts
    verified = manage(new, "verify")
    assert verified.returncode == 3
    assert verified.stdout.count("of attributes break a limit") == len(texts)


def test_manifest_of_endless_nesting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(backup.BackupError) as error:
        backup.check_backup(tmp_path / "b", bar())
    assert error.value.code == "backup_unreadable"
