"""The demo catalogue in the database: drawn, and brought in by the same way as everybody's pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from products.demo.drawing import DemoPicture, draw_catalogue, plan
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.models import Product


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """How many products the demo has of each sort, and how many of them this call added."""

    historical: int
    arrivals: int
    added: int


def load_demo(progress: Callable[[int, int], None] | None = None) -> DemoSummary:
    """Add the demo's products that the database does not have yet; their pictures are then pending.

    One product after the other, so that a second call goes on where a first one stopped. ``progress`` is called
    with the numbers of products done and in all.
    """
    items = plan()
    skus = [item.sku for item in items]
    there = set(Product.objects.filter(sku__in=skus).values_list("sku", flat=True))
    done = len(there)
    for _sku, pictures in groupby(draw_catalogue(skip=there), key=lambda picture: picture.sku):
        _add(pictures)
        done += 1
        if progress is not None:
            progress(done, len(skus))
    historical = sum(item.is_historical for item in items)
    return DemoSummary(historical, len(items) - historical, len(skus) - len(there))


def _add(pictures: Iterable[DemoPicture]) -> None:
    views = list(pictures)
    first = views[0]
    add_product(
        [Upload(_jpeg(view), f"{view.sku}-{view.side + 1}.jpg") for view in views],
        sku=first.sku,
        name=first.name,
        category=first.category,
        description=first.description,
        is_historical=first.is_historical,
        attributes=first.attributes,
    )


def _jpeg(picture: DemoPicture) -> bytes:
    buffer = io.BytesIO()
    picture.image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
