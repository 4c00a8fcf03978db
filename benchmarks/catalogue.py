"""A catalogue of any size in the database, for whatever is measured on a full one. Everything follows from a seed.

``write`` fills an empty, migrated database; Django must be set up. Rows go in by bulk, past the models' ``save`` but
with all constraints and triggers of the database in place. Files are there only where asked for: each picture has a
name of its own, and the names are hard links of a few dozen real files, so ``verify`` finds what the rows say.
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
from core.sqlite import statistics
from gpu.vectors import LEGACY_MODEL, Features
from matching.models import Match
from products.models import EmbeddingDay, Feature, Product, ProductImage

Vectors = npt.NDArray[np.float32]
Owners = npt.NDArray[np.int64]  # the row of each picture's product
Row = dict[str, Any]

MODEL = "clip-ViT-B-32"  # the default, so that the web server takes the vectors for its own
CHUNK = 5_000
DAYS = 1_000  # over which the catalogue came in
CANDIDATES = 10  # matches of an arrival
JUDGED = 0.6  # of the arrivals, the oldest ones
FILES, SIDE, THUMBNAIL_SIDE = 40, 240, 120

ROOMS = ("Kitchen", "Dining", "Bath", "Bedroom", "Office", "Garden", "Hall", "Nursery", "Outdoor", "Storage", "Living",
         "Lighting", "Textiles", "Decoration", "Tools", "Gifts", "Travel", "Seasonal", "Pets", "Hobby")  # fmt: skip
THINGS = ("mug", "bowl", "lamp", "chair", "box", "towel", "jar", "tray", "clock", "basket", "vase", "shelf", "rug",
          "kettle", "plate", "stool", "mirror", "frame", "bottle", "cushion")  # fmt: skip
COLOURS = ("black", "white", "blue", "green", "red", "grey", "brown", "yellow")
MATERIALS = ("ceramic", "oak", "steel", "glass", "cotton", "leather", "plastic", "linen", "wool", "bamboo")
MAKERS = tuple(f"{first}{last}" for first in ("Nor", "Al", "Vi", "Kal", "Mo") for last in ("dal", "ma", "tto", "berg"))


@dataclass(frozen=True, slots=True)
class Work:
    """What people and workers left in the catalogue, as numbers of rows; nothing where nothing is said."""

    arrivals: int = 0  # products that are new, the latest ones; each with ten matches
    failed: int = 0  # pictures
    pending: int = 0
    claimed: int = 0
    reviewers: int = 0
    complete: bool = False  # whether the pictures' files, legacy features, histories and daily counts are there, too


def write(vectors: Vectors, categories: Sequence[str], work: Work = Work()) -> None:
    """Write ``len(categories)`` products and ``len(vectors)`` pictures, product n and its first picture with id n.

    Pictures beyond the products are second views. ``vectors``: (n, d) float32, a picture's embedding each.
    """
    reviewers = _reviewers(work.reviewers)
    names = _files(len(vectors)) if work.complete else [(f"pictures/{n}.jpg", "") for n in range(len(vectors))]
    owners = np.arange(len(vectors))
    rng = np.random.default_rng(4)
    owners[len(categories) :] = rng.choice(len(categories), len(vectors) - len(categories), replace=False)
    states = _states(len(vectors), work, rng)
    insert(Product, _products(categories, work.arrivals))
    insert(ProductImage, _pictures(owners, len(categories), names, states))
    insert(Feature, _features(vectors, owners, states, work.complete))
    insert(Match, _matches(len(categories), work.arrivals, reviewers))
    if work.complete:
        _record(Product, "created_at", "+")
        _record(ProductImage, "created_at", "+")
        _record(Match, "reviewed_at", "~", "reviewer_id")
        days = (_NOW.date() - timedelta(days=n) for n in range(DAYS))
        EmbeddingDay.objects.bulk_create(EmbeddingDay(day=day, pictures=len(vectors) // DAYS) for day in days)
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), [Product, ProductImage, Feature, Match]):
            cursor.execute(sql)
    statistics.analyze()  # as the schedule does


def zipf_categories(products: int) -> list[str]:
    """A category for each product; their sizes fall like 1/rank, from thousands to a few."""
    names = [f"{room} / {thing}" for room in ROOMS for thing in THINGS]
    share = 1 / np.arange(1, len(names) + 1)
    drawn = np.random.default_rng(3).choice(len(names), size=products, p=share / share.sum())
    return [names[number] for number in drawn]


def insert(model: type[models.Model], rows: Iterable[Row]) -> None:
    """Insert rows, given by the names of their fields and all with the same ones; other fields get their default."""
    remaining = iter(rows)
    fields: dict[str, Any] = {field.attname: field for field in model._meta.concrete_fields}
    while batch := list(islice(remaining, CHUNK)):
        named = [fields[name] for name in batch[0]]
        others = [field for field in fields.values() if field not in named and not field.primary_key]
        defaults = [field.get_db_prep_save(field.pre_save(model(), add=True), connection) for field in others]
        columns = ", ".join(connection.ops.quote_name(field.column) for field in (*named, *others))
        places = ", ".join(["%s"] * (len(named) + len(others)))
        to_database = [field.get_db_prep_save for field in named]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({places})",
                [
                    [save(value, connection) for save, value in zip(to_database, row.values(), strict=True)] + defaults
                    for row in batch
                ],
            )


def _moment(part: float) -> datetime:
    """A time in the past: 0 is when the first product came in, 1 is now."""
    return _NOW - timedelta(days=DAYS * (1 - part))


_NOW = timezone.now()


def _products(categories: Sequence[str], arrivals: int) -> Iterator[Row]:
    rng = np.random.default_rng(5)
    count = len(categories)
    for number, category in enumerate(categories, 1):
        thing = category.rpartition(" ")[2] or "thing"
        colour, material, maker = (names[rng.integers(len(names))] for names in (COLOURS, MATERIALS, MAKERS))
        added = _moment(number / count)
        yield {
            "id": number, "sku": f"SKU-{number:07}", "name": f"{maker} {colour} {material} {thing} {number % 97}",
            "category": category, "description": f"A {thing} of {material} by {maker}, {colour}.",
            "is_historical": number <= count - arrivals,
            "attributes": {"colour": colour, "material": material, "brand": maker, "weight_g": int(number % 3000)},
            "created_at": added, "updated_at": added,
        }  # fmt: skip


def _states(pictures: int, work: Work, rng: np.random.Generator) -> list[str]:
    """Failures are anywhere; what waits came last."""
    states = ["ready"] * pictures
    for number in rng.choice(pictures - work.pending - work.claimed, work.failed, replace=False):
        states[number] = "failed"
    waiting = ["claimed"] * work.claimed + ["pending"] * work.pending
    return states[: pictures - len(waiting)] + waiting


def _pictures(owners: Owners, products: int, names: Sequence[tuple[str, str]], states: Sequence[str]) -> Iterator[Row]:
    count = len(owners)
    for number, (owner, (name, file_digest), state) in enumerate(zip(owners, names, states, strict=True), 1):
        added = _moment(number / count)
        yield {
            "id": number, "product_id": int(owner) + 1, "file": name, "original_name": f"IMG_{number}.jpg",
            "sha256": sha256(str(number).encode()).hexdigest(), "file_sha256": file_digest, "width": SIDE,
            "height": SIDE, "position": int(number > products), "state": state,
            "error_code": "image_corrupt" if state == "failed" else "",
            "error_message": "The file is damaged." if state == "failed" else "",
            "attempts": {"ready": 1, "failed": 3, "claimed": 1}.get(state, 0),
            "claim_token": UUID(int=1) if state == "claimed" else None,
            "claimed_at": _NOW if state == "claimed" else None,
            "embedded_with": MODEL if state == "ready" else "", "created_at": added, "updated_at": added,
        }  # fmt: skip


def _features(vectors: Vectors, owners: Owners, states: Sequence[str], legacy: bool) -> Iterator[Row]:
    rng = np.random.default_rng(7)
    for number, (vector, owner, state) in enumerate(zip(vectors, owners, states, strict=True), 1):
        if state != "ready":
            continue
        ids = {"product_id": int(owner) + 1, "image_id": number}
        yield {"id": number, **ids, **Feature.columns(Features.from_embedding(vector, MODEL))}
        if legacy:
            color, texture = rng.integers(256, size=(2, 256), dtype=np.uint8)
            shape = rng.random(7, np.float32)
            features = Features("legacy", LEGACY_MODEL, color, shape, texture)
            yield {"id": len(vectors) + number, **ids, **Feature.columns(features)}


def _matches(products: int, arrivals: int, reviewers: Sequence[int]) -> Iterator[Row]:
    """Each arrival's ten candidates; of the judged ones nearly all rejected, the best often confirmed."""
    rng = np.random.default_rng(6)
    historical = products - arrivals
    for arrival in range(1, arrivals + 1):
        part = arrival / arrivals
        judged = part <= JUDGED and bool(reviewers)
        # Different ones for sure: steps through the catalogue, fewer in all than it has products.
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
                # Over the last year, the last ones of today.
                "reviewed_at": _NOW - timedelta(days=365 * (1 - part / JUDGED)) if judged else None,
            }  # fmt: skip


def _record(model: Any, at: str, kind: str, by: str = "NULL") -> None:
    """An entry in the model's history for each row that has a time in column ``at``."""
    history = model.history.model
    columns = ", ".join(field.column for field in history.tracked_fields)
    sql = f"""INSERT INTO {history._meta.db_table}
        ({columns}, history_date, history_type, history_change_reason, history_user_id)
        SELECT {columns}, {at}, '{kind}', 'import', {by} FROM {model._meta.db_table}
        WHERE {at} IS NOT NULL ORDER BY {at}, id"""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _reviewers(count: int) -> list[int]:
    roles = list(Group.objects.order_by("pk"))
    users = User.objects.bulk_create(
        User(username=f"person{n}", first_name=f"Person {n}", is_staff=True, last_login=_NOW) for n in range(count)
    )
    for n, user in enumerate(users):
        user.groups.add(roles[n % len(roles)])
    return [user.pk for user in users]


def _files(count: int) -> list[tuple[str, str]]:
    """Names and SHA-256 of so many derivatives under MEDIA_ROOT, each with its thumbnail."""
    root = Path(settings.MEDIA_ROOT)
    sources = []
    for n in range(FILES):
        first = root / "pictures" / f"{n:02x}" / f"{n}.jpg"
        thumbnail = root / "thumbnails" / first.relative_to(root / "pictures")
        for path, side in ((first, SIDE), (thumbnail, THUMBNAIL_SIDE)):
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(side, side, n).save(path, "JPEG", quality=85)
        sources.append((first, thumbnail, sha256(first.read_bytes()).hexdigest()))
    names = []
    for number in range(count):
        first, thumbnail, digest = sources[number % FILES]
        if number >= FILES:
            os.link(thumbnail, thumbnail.with_name(f"{number}.jpg"))
            os.link(first, first.with_name(f"{number}.jpg"))
        names.append((str(first.with_name(f"{number}.jpg").relative_to(root)), digest))
    return names
