"""With a broker, an import leaves embedding and matching to the workers."""

from __future__ import annotations

import pytest

from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


def test_workers_embed_and_match_the_imported_products(tmp_path):
    write_images(tmp_path, *(f"{number}.jpg" for number in range(40)))
    rows = [{"sku": f"S{n}", "is_historical": str(n > 0).lower(), "image": f"{n}.jpg"} for n in range(40)]
    table = write_csv(tmp_path / "c.csv", rows)
    with Stack(tmp_path) as stack:
        output = stack.manage("import_products", str(table))
        assert "40 products added" in output
        assert "The workers embed and match the imported products." in output
        assert stack.rows("SELECT DISTINCT state FROM product_images") == [("pending",)]
        stack.start_worker()
        ready = "SELECT count(*) FROM product_images WHERE state = 'ready'"
        wait_until(lambda: stack.rows(ready) == [(40,)], 60, "all images are ready")
        matched = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"
        wait_until(lambda: stack.rows(matched) == [(0,)], 30, "the new product is matched")


def test_open_cases_have_candidates_within_a_sweep_after_the_catalogue_is_imported(tmp_path):
    write_images(tmp_path, *(f"{number}.jpg" for number in range(81)))
    arrivals = [{"sku": f"N{n}", "is_historical": "false", "image": f"{n}.jpg"} for n in range(20)]
    # The same file twice would be one product.
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number + 1, angle=3))
    new = write_csv(tmp_path / "new.csv", arrivals)
    unmatched = "SELECT count(*) FROM products WHERE unmatched_since IS NOT NULL"
    with Stack(tmp_path) as stack:
        stack.start_worker()
        stack.manage("import_products", str(new))
        ready = "SELECT count(*) FROM product_images WHERE state = 'ready'"
        wait_until(lambda: stack.rows(ready) == [(20,)], 60, "the new products are ready")
        write_images(tmp_path, *(f"{number}.jpg" for number in range(81)))
        rows = [{"sku": f"S{n}", "is_historical": "true", "image": f"{n}.jpg"} for n in range(81)]
        stack.manage("import_products", str(write_csv(tmp_path / "catalogue.csv", rows)))
        wait_until(lambda: stack.rows(ready) == [(101,)], 60, "all images are ready")
        wait_until(lambda: stack.rows(unmatched) == [(0,)], 30, "the catalogue was followed")
        best = """SELECT n.sku, c.sku FROM matches m JOIN products n ON n.id = m.product_id
                  JOIN products c ON c.id = m.candidate_id WHERE m.rank = 1 ORDER BY n.id"""
        assert stack.rows(best) == [(f"N{n}", f"S{n}") for n in range(20)]
