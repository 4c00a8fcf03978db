"""With a broker, an import leaves embedding and matching to the workers."""

from __future__ import annotations

import pytest

from tests.helpers.processes import Stack, wait_until
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
