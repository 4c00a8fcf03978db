"""A table of matches with their verdicts and the decisions on their cases, for spreadsheet programs."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Max
from django.db.models.functions import Length

from core.database.batches import iter_batches
from core.spreadsheets.export import ExportTable, format_time
from matching.models import Match
from matching.review.cases import DUPLICATE, NEW_PRODUCT

COLUMNS = {
    "product sku": "product__sku",
    "product name": "product__name",
    "candidate sku": "candidate__sku",
    "candidate name": "candidate__name",
    "score": "similarity_score",
    "rank": "rank",
    "probability": "probability",
    "answer": "product__answer__answer",
    "not in catalogue": "product__answer__not_in_catalogue",
    "verdict": "review_status",
    "decision": "product__decision__kind",
    "case": "product__is_historical",
    "differs in": "product__decision__differs",
    "reason": "product__decision__reason",
    "decided by": "product__decision__reviewer__username",
    "automatic": "product__decision__automatic",
    "by": "reviewer__username",
    "when": "reviewed_at",
    "note": "note",
    "note on the case": "product__decision__note",
    "feature type": "feature_type",
    "model": "model_name",
    "found": "created_at",
    "match id": "pk",
    "product id": "product_id",
    "candidate id": "candidate_id",
}


def matches_table(ids: Sequence[int]) -> ExportTable:
    """Yield a header and the matches with these ids, in this order."""
    yield list(COLUMNS)
    for batch in iter_batches(ids):
        rows = {row["pk"]: row for row in Match.objects.filter(pk__in=batch).order_by().values(*COLUMNS.values())}
        for row in (rows[pk] for pk in batch if pk in rows):
            row["product__is_historical"] = DUPLICATE if row["product__is_historical"] else NEW_PRODUCT
            row["similarity_score"] = round(row["similarity_score"], 2)
            for name in ("probability", "product__answer__not_in_catalogue"):
                row[name] = None if row[name] is None else round(row[name], 4)
            row["reviewed_at"], row["created_at"] = format_time(row["reviewed_at"]), format_time(row["created_at"])
            yield [row[name] for name in COLUMNS.values()]


def longest_note(ids: Sequence[int]) -> int:
    """Return the length of the longest note on these matches, in characters."""
    longest = {"of_match": Max(Length("note")), "of_case": Max(Length("product__decision__note"))}
    lengths = (Match.objects.filter(pk__in=batch).aggregate(**longest).values() for batch in iter_batches(ids))
    return max((length or 0 for of_batch in lengths for length in of_batch), default=0)
