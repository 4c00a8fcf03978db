"""An import can be stopped, repeated and run dry, and it embeds and matches all its products."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings

from matching.models import Match
from products.importing.importer import import_rows
from products.importing.rows import open_source
from products.models import Feature, Product, ProductImage
from tests.helpers.commands import run
from tests.helpers.files import files_in
from tests.helpers.installations import environment
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images


@pytest.fixture
def catalogue(tmp_path) -> Path:
    """Write a table of eight products, two with a second image."""
    write_images(tmp_path, *(f"{number}.jpg" for number in range(10)))
    rows = [{"sku": f"S{number}", "name": f"Number {number}", "image": f"{number}.jpg"} for number in range(7)]
    rows += [{"sku": "S7", "name": "Number 7", "image": "7.jpg"}]
    rows += [{"sku": "S0", "name": "", "image": "8.jpg"}, {"sku": "S1", "name": "", "image": "9.jpg"}]
    return write_csv(tmp_path / "c.csv", rows)


@pytest.mark.django_db
def test_second_import_adds_nothing(catalogue, media):
    first = run("import_products", catalogue)
    stored = files_in(media)
    again = run("import_products", catalogue)
    assert (first.code, again.code) == (0, 0)
    assert "8 products added, 2 images added, 0 already there, 0 refused" in first.out
    assert "0 products added, 0 images added, 10 already there, 0 refused" in again.out
    assert (Product.objects.count(), ProductImage.objects.count()) == (8, 10)
    assert files_in(media) == stored


@pytest.mark.django_db
def test_stopped_import_is_resumed_by_the_next_run(catalogue):
    with open_source(catalogue) as source:
        results = import_rows(source)
        for _ in range(3):
            next(results)
        results.close()
    assert Product.objects.count() == 3
    ran = run("import_products", catalogue)
    assert "5 products added, 2 images added, 3 already there" in ran.out
    assert set(ProductImage.objects.values_list("state", flat=True)) == {"ready"}


@pytest.mark.django_db
def test_same_image_twice_in_one_file_is_stored_once(tmp_path):
    write_images(tmp_path, "a.jpg")
    rows = [{"sku": "A", "image": "a.jpg"}, {"sku": "A", "image": "a.jpg"}, {"sku": "B", "image": "a.jpg"}]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert "2 products added, 0 images added, 1 already there" in ran.out


@pytest.mark.django_db
def test_dry_run_reports_all_changes_and_saves_none(catalogue, media):
    with catalogue.open("a") as file:
        file.write("S9,Gone,gone.jpg\n")
    rehearsal = run("import_products", catalogue, "--dry-run")
    assert not Product.objects.exists()
    assert not files_in(media)
    real = run("import_products", catalogue)
    assert rehearsal.code == real.code == 3
    counts = "8 products added, 2 images added, 0 already there, 1 refused"
    assert counts in rehearsal.out
    assert counts in real.out
    assert "row 12 (S9): file_missing" in rehearsal.err


@pytest.mark.django_db
def test_new_products_are_matched_after_the_whole_file_is_imported(tmp_path):
    (tmp_path / "new.jpg").write_bytes(jpeg(1, angle=5))
    write_images(tmp_path, *(f"{number}.jpg" for number in range(5)))
    rows = [{"sku": "NEW", "is_historical": "no", "image": "new.jpg"}]
    rows += [{"sku": f"S{number}", "is_historical": "yes", "image": f"{number}.jpg"} for number in range(5)]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert ran.code == 0
    assert "Matched 1 new products" in ran.out
    best = Match.objects.get(product__sku="NEW", rank=1)
    assert best.candidate.sku == "S0"  # drawn from the same seed
    assert Feature.objects.values("image").distinct().count() == 6
    assert not Match.objects.exclude(product__sku="NEW").exists()


@pytest.mark.django_db
def test_image_shared_by_many_products_is_stored_for_each(tmp_path):
    write_images(tmp_path, "a.jpg")
    rows = [{"sku": "", "name": name, "image": "a.jpg"} for name in ("one", "two", "one")]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert "2 products added, 0 images added, 1 already there" in ran.out


def test_ctrl_c_stops_after_the_current_row_and_the_next_run_resumes(tmp_path):
    number = 150
    write_images(tmp_path / "in", *(f"{n}.jpg" for n in range(number)))
    env = environment(tmp_path / "var")
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=settings.BASE_DIR, env=env, check=True)
    command = [*manage, "import_products", str(tmp_path / "in")]
    database = sqlite3.connect(tmp_path / "var" / "catalogmatch.sqlite3", timeout=20)

    def count(table: str) -> int:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    stopped = subprocess.Popen(command, cwd=settings.BASE_DIR, env=env, stderr=subprocess.PIPE, text=True)
    while count("products") < 5 and stopped.poll() is None:
        time.sleep(0.005)
    stopped.send_signal(signal.SIGINT)
    _, output = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, output
    assert "Run the same command again to continue." in output
    assert "Traceback" not in output
    assert 5 <= count("products") < number
    assert count("products") == count("product_images")
    subprocess.run(command, cwd=settings.BASE_DIR, env=env, check=True, stderr=subprocess.DEVNULL)
    assert (count("products"), count("product_images")) == (number, number)
    [[ready]] = database.execute("SELECT count(*) FROM product_images WHERE state = 'ready'")
    assert ready == number
    # An image and its thumbnail each, and no files of the interrupted row.
    assert len(files_in(tmp_path / "var" / "media")) == 2 * number
