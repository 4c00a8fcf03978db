"""Fill a database with a synthetic catalogue of any size. The same arguments give the same catalogue.

Rows are inserted in bulk, without the models' ``save`` but with all constraints and triggers of the database. Files
are written on request only. They are hard links to a few dozen real images, each under a name of its own, so that
``verify`` finds what the rows say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.utils import timezone

from benchmarks.images import photo
from benchmarks.vectors import MODEL, Vectors
from core.sqlite import statistics
from gpu.imaging.barcodes import READER
from gpu.vectors import LEGACY_MODEL, Features
from matching.models import Match
from products.models import EmbeddingDay, Feature, Product, ProductImage

ProductRows = npt.NDArray[np.int64]  # for each image, the row of its product
Row = dict[str, Any]

CHUNK_ROWS = 5_000
DAYS = 1_000  # age of the oldest product
CANDIDATES = 10  # matches of a new product
JUDGED_SHARE = 0.6  # of the new products, the oldest ones
DISTINCT_FILES, SIDE, THUMBNAIL_SIDE = 40, 240, 120

ROOMS = ("Kitchen", "Dining", "Bath", "Bedroom", "Office", "Garden", "Hall", "Nursery", "Outdoor", "Storage", "Living",
         "Lighting", "Textiles", "Decoration", "Tools", "Gifts", "Travel", "Seasonal", "Pets", "Hobby")  # fmt: skip
THINGS = ("mug", "bowl", "lamp", "chair", "box", "towel", "jar", "tray", "clock", "basket", "vase", "shelf", "rug",
          "kettle", "plate", "stool", "mirror", "frame", "bottle", "cushion")  # fmt: skip
COLOURS = ("black", "white", "blue", "green", "red", "grey", "brown", "yellow")
MATERIALS = ("ceramic", "oak", "steel", "glass", "cotton", "leather", "plastic", "linen", "wool", "bamboo")
MAKERS = tuple(f"{first}{last}" for first in ("Nor", "Al", "Vi", "Kal", "Mo") for last in ("dal", "ma", "tto", "berg"))


@dataclass(frozen=True, slots=True)
class Contents:
    """Numbers of rows besides embedded historical products."""

    arrivals: int = 0  # new products, the latest ones; each with ten matches
    failed: int = 0  # images in this state
    pending: int = 0
    claimed: int = 0
    reviewers: int = 0
    complete: bool = False  # adds image files, legacy features, history and daily counts


def fill_database(vectors: Vectors, categories: Sequence[str], contents: Contents = Contents()) -> None:
    """Insert a product for each category and an image for each vector, (n, d) float32.

    Product n and its first image have id n. Images beyond the number of products are second images of random
    products. The database must be empty and migrated, and Django set up.
    """
    reviewers = _create_reviewers(contents.reviewers)
    images = len(vectors)
    files = _write_files(images) if contents.complete else [{"file": f"pictures/{n}.jpg"} for n in range(images)]
    product_rows = np.arange(images)
    rng = np.random.default_rng(4)
    product_rows[len(categories) :] = rng.choice(len(categories), images - len(categories), replace=False)
    states = _states(images, contents, rng)
    bulk_insert(Product, _products(categories, contents.arrivals))
    bulk_insert(ProductImage, _images(product_rows, len(categories), files, states))
    bulk_insert(Feature, _features(vectors, product_rows, states, contents.complete))
    bulk_insert(Match, _matches(len(categories), contents.arrivals, reviewers))
    if contents.complete:
        _write_history(Product, "created_at", "+")
        _write_history(ProductImage, "created_at", "+")
        _write_history(Match, "reviewed_at", "~", "reviewer_id")
        days = (_NOW.date() - timedelta(days=n) for n in range(DAYS))
        EmbeddingDay.objects.bulk_create(EmbeddingDay(day=day, pictures=images // DAYS) for day in days)
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), [Product, ProductImage, Feature, Match]):
            cursor.execute(sql)
    statistics.analyze()  # as the schedule does on a live database


def zipf_categories(products: int) -> list[str]:
    """Return a category for each product. Their sizes fall like 1/rank, from thousands to a few."""
    names = [f"{room} / {thing}" for room in ROOMS for thing in THINGS]
    share = 1 / np.arange(1, len(names) + 1)
    drawn = np.random.default_rng(3).choice(len(names), size=products, p=share / share.sum())
    return [names[number] for number in drawn]


def bulk_insert(model: type[models.Model], rows: Iterable[Row]) -> None:
    """Insert rows that all name the same fields. Other fields get their defaults."""
    remaining = iter(rows)
    fields: dict[str, Any] = {field.attname: field for field in model._meta.concrete_fields}
    while batch := list(islice(remaining, CHUNK_ROWS)):
        given = [fields[name] for name in batch[0]]
        others = [field for field in fields.values() if field not in given and not field.primary_key]
        defaults = [field.get_db_prep_save(field.pre_save(model(), add=True), connection) for field in others]
        columns = ", ".join(connection.ops.quote_name(field.column) for field in (*given, *others))
        placeholders = ", ".join(["%s"] * (len(given) + len(others)))
        to_database = [field.get_db_prep_save for field in given]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({placeholders})",
                [
                    [save(value, connection) for save, value in zip(to_database, row.values(), strict=True)] + defaults
                    for row in batch
                ],
            )


def _time_at(share: float) -> datetime:
    """Return a time between the first product (0) and now (1)."""
    return _NOW - timedelta(days=DAYS * (1 - share))


_NOW = timezone.now()


def _products(categories: Sequence[str], arrivals: int) -> Iterator[Row]:
    rng = np.random.default_rng(5)
    count = len(categories)
    for number, category in enumerate(categories, 1):
        thing = category.rpartition(" ")[2] or "thing"
        colour, material, maker = (names[rng.integers(len(names))] for names in (COLOURS, MATERIALS, MAKERS))
        added = _time_at(number / count)
        yield {
            "id": number, "sku": f"SKU-{number:07}", "name": f"{maker} {colour} {material} {thing} {number % 97}",
            "category": category, "description": f"A {thing} of {material} by {maker}, {colour}.",
            "is_historical": number <= count - arrivals,
            "attributes": {"colour": colour, "material": material, "brand": maker, "weight_g": int(number % 3000)},
            "created_at": added, "updated_at": added,
        }  # fmt: skip


def _states(images: int, contents: Contents, rng: np.random.Generator) -> list[str]:
    # Failed images are spread at random. Pending and claimed ones are the newest.
    states = ["ready"] * images
    for number in rng.choice(images - contents.pending - contents.claimed, contents.failed, replace=False):
        states[number] = "failed"
    waiting = ["claimed"] * contents.claimed + ["pending"] * contents.pending
    return states[: images - len(waiting)] + waiting


def _images(product_rows: ProductRows, products: int, files: Sequence[Row], states: Sequence[str]) -> Iterator[Row]:
    count = len(product_rows)
    for number, (product_row, columns, state) in enumerate(zip(product_rows, files, states, strict=True), 1):
        added = _time_at(number / count)
        yield {
            "id": number, "product_id": int(product_row) + 1, **columns, "original_name": f"IMG_{number}.jpg",
            "sha256": sha256(str(number).encode()).hexdigest(), "width": SIDE,
            "height": SIDE, "position": int(number > products), "state": state, "barcode_reader": READER,
            "error_code": "image_corrupt" if state == "failed" else "",
            "error_message": "The file is damaged." if state == "failed" else "",
            "attempts": {"ready": 1, "failed": 3, "claimed": 1}.get(state, 0),
            "claim_token": UUID(int=1) if state == "claimed" else None,
            "claimed_at": _NOW if state == "claimed" else None,
            "embedded_with": MODEL if state == "ready" else "", "created_at": added, "updated_at": added,
        }  # fmt: skip


def _features(vectors: Vectors, product_rows: ProductRows, states: Sequence[str], legacy: bool) -> Iterator[Row]:
    rng = np.random.default_rng(7)
    for number, (vector, product_row, state) in enumerate(zip(vectors, product_rows, states, strict=True), 1):
        if state != "ready":
            continue
        ids = {"product_id": int(product_row) + 1, "image_id": number}
        yield {"id": number, **ids, **Feature.columns(Features.from_embedding(vector, MODEL))}
        if legacy:
            color, texture = rng.integers(256, size=(2, 256), dtype=np.uint8)
            shape = rng.random(7, np.float32)
            features = Features("legacy", LEGACY_MODEL, color, shape, texture)
            yield {"id": len(vectors) + number, **ids, **Feature.columns(features)}


def _matches(products: int, arrivals: int, reviewers: Sequence[int]) -> Iterator[Row]:
    # Of the judged candidates nearly all are rejected, and the best is often confirmed.
    rng = np.random.default_rng(6)
    historical = products - arrivals
    for arrival in range(1, arrivals + 1):
        age = arrival / arrivals
        judged = age <= JUDGED_SHARE and bool(reviewers)
        # Equal steps through the catalogue give ten different candidates.
        step = int(rng.integers(1, historical // CANDIDATES))
        candidates = (int(rng.integers(historical)) + step * np.arange(CANDIDATES)) % historical + 1
        scores = np.sort(100 * rng.beta(6, 2.5, CANDIDATES))[::-1]
        for rank, (candidate, score) in enumerate(zip(candidates, scores, strict=True), 1):
            confirmed = rank == 1 and score > 75
            yield {
                "id": (arrival - 1) * CANDIDATES + rank, "product_id": historical + arrival,
                "candidate_id": int(candidate), "similarity_score": float(score), "feature_type": "clip",
                "model_name": MODEL, "rank": rank,
                "review_status": ("confirmed" if confirmed else "rejected") if judged else "pending",
                "reviewer_id": reviewers[int(rng.integers(len(reviewers)))] if judged else None,
                # Spread over the last year up to now.
                "reviewed_at": _NOW - timedelta(days=365 * (1 - age / JUDGED_SHARE)) if judged else None,
            }  # fmt: skip


def _write_history(model: Any, at: str, kind: str, by: str = "NULL") -> None:
    """Write a history entry for each row that has a time in column ``at``."""
    history = model.history.model
    columns = ", ".join(field.column for field in history.tracked_fields)
    sql = f"""INSERT INTO {history._meta.db_table}
        ({columns}, history_date, history_type, history_change_reason, history_user_id)
        SELECT {columns}, {at}, '{kind}', 'import', {by} FROM {model._meta.db_table}
        WHERE {at} IS NOT NULL ORDER BY {at}, id"""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _create_reviewers(count: int) -> list[int]:
    roles = list(Group.objects.order_by("pk"))
    users = User.objects.bulk_create(
        User(username=f"reviewer{n}", first_name=f"Reviewer {n}", is_staff=True, last_login=_NOW) for n in range(count)
    )
    for n, user in enumerate(users):
        user.groups.add(roles[n % len(roles)])
    return [user.pk for user in users]


def _write_files(count: int) -> list[Row]:
    """Write images and thumbnails under MEDIA_ROOT. Return the columns of each image that describe its files."""
    root = Path(settings.MEDIA_ROOT)
    sources = []
    for n in range(DISTINCT_FILES):
        first = root / "pictures" / f"{n:02x}" / f"{n}.jpg"
        thumbnail = root / "thumbnails" / first.relative_to(root / "pictures")
        for path, side in ((first, SIDE), (thumbnail, THUMBNAIL_SIDE)):
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(side, side, n).save(path, "JPEG", quality=85)
        columns = {
            "file_sha256": sha256(first.read_bytes()).hexdigest(), "file_bytes": first.stat().st_size,
            "thumbnail_sha256": sha256(thumbnail.read_bytes()).hexdigest(), "thumbnail_bytes": thumbnail.stat().st_size,
        }  # fmt: skip
        sources.append((first, thumbnail, columns))
    rows = []
    for number in range(count):
        first, thumbnail, columns = sources[number % DISTINCT_FILES]
        if number >= DISTINCT_FILES:
            os.link(thumbnail, thumbnail.with_name(f"{number}.jpg"))
            os.link(first, first.with_name(f"{number}.jpg"))
        rows.append({"file": str(first.with_name(f"{number}.jpg").relative_to(root)), **columns})
    return rows
