"""A process that writes to the database without a pause, for the test of concurrent writers.

    python -m tests.faults.busy_writer add NAME TIMES    add products and change each of them
    python -m tests.faults.busy_writer edit NAME TIMES   post the admin form of its own products

Prints the seconds of each write as JSON. Ends with a traceback at the first error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import django


def adding(name: str, times: int) -> Iterator[Callable[[], object]]:
    from products.images import intake
    from products.models import Product

    for number in range(times // 2):
        sku = f"{name}-{number}"
        yield lambda sku=sku: intake.add_product([], sku=sku)  # type: ignore[misc]
        product = Product.objects.get(sku=sku)
        yield lambda product=product: intake.change_product(product, {"name": "changed"})  # type: ignore[misc]


def editing(name: str, times: int) -> Iterator[Callable[[], object]]:
    from products.models import Product
    from tests.helpers.rows import browser_of

    browser = browser_of("manager")
    product = Product.objects.create(sku=name)
    address = f"/admin/products/product/{product.pk}/change/"
    no_rows = {f"{part}-{count}_FORMS": "0" for part in ("images", "features") for count in ("TOTAL", "INITIAL")}
    for number in range(times):
        form = {"sku": name, "name": f"edit {number}", "attributes": "{}", **no_rows}

        def post(form: dict[str, str] = form) -> None:
            response = browser.post(address, form, headers={"Host": "127.0.0.1"})
            if response.status_code != 302:
                raise RuntimeError(
                    f"the form was answered with {response.status_code}: {response.content.decode()[-2000:]}"
                )

        yield post


def main() -> None:
    what, name, times = sys.argv[1:]
    seconds = []
    for write in {"add": adding, "edit": editing}[what](name, int(times)):
        started = time.perf_counter()
        write()
        seconds.append(time.perf_counter() - started)
    print(json.dumps(seconds))  # noqa: T201


if __name__ == "__main__":
    django.setup()
    main()
