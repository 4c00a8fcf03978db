"""Keep the decisions on deleted products, and attach them again when such a product is imported.

A deleted product leaves its SKU and the hashes of its images if something was decided on it. A product that comes with
that SKU, or with such an image, takes its place in all kept decisions and verdicts. Both get their former ids, so that
their history goes on and nothing counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from core.database.batches import iter_batches
from matching.models import Decision, DeletedImage, DeletedProduct, KeptDecision, KeptVerdict, Match
from products.models import Product, ProductImage

MAX_DELETED = 100_000  # deleted products; the oldest are forgotten first
_VERDICT = (
    "product_id", "candidate_id", "similarity_score", "feature_type", "model_name", "rank", "review_status",
    "reviewer_id", "reviewed_at", "note",
)  # fmt: skip
_DECISION = (
    "product_id", "kind", "candidates", "differs", "reason", "note", "reviewer_id", "decided_at", "version", "shown",
    "settled",
)  # fmt: skip


def keep(products: QuerySet[Product]) -> None:
    """Keep what was decided on these products, right before they are deleted."""
    chosen = products.order_by().values("pk")
    verdicts = _judged().filter(Q(product__in=chosen) | Q(candidate__in=chosen))
    decisions = list(Decision.objects.filter(product__in=chosen))
    rows = [_copy(match, KeptVerdict, _VERDICT) for match in verdicts.order_by("pk")]
    named = {pk for row in rows for pk in (row.product_id, row.candidate_id)} | {row.product_id for row in decisions}
    # Of an earlier deletion: verdicts whose other product is deleted by now.
    others = KeptVerdict.objects.filter(Q(product_id__in=chosen) | Q(candidate_id__in=chosen))
    named |= {pk for pair in others.values_list("product_id", "candidate_id") for pk in pair}
    if not named:
        return
    KeptVerdict.objects.bulk_create(rows, batch_size=500)
    KeptDecision.objects.bulk_create(
        [_copy(decision, KeptDecision, _DECISION) for decision in decisions], batch_size=500
    )
    now = timezone.now()
    gone = [
        DeletedProduct(former_id=pk, sku=sku, is_historical=is_historical, deleted_at=now)
        for pk, sku, is_historical in products.order_by("pk").values_list("pk", "sku", "is_historical")
        if pk in named
    ]
    DeletedProduct.objects.bulk_create(gone, batch_size=500)
    for ids in iter_batches([product.former_id for product in gone]):
        hashes = ProductImage.objects.filter(product__in=ids).order_by("pk").values_list("product_id", "sha256")
        DeletedImage.objects.bulk_create(
            [DeletedImage(product_id=product, sha256=sha256) for product, sha256 in hashes], batch_size=500
        )
    if (excess := DeletedProduct.objects.count() - MAX_DELETED) > 0:
        oldest = DeletedProduct.objects.order_by("deleted_at", "former_id").values_list("former_id", flat=True)
        _forget(list(oldest[:excess]))


def attach_by_sku(product: Product) -> None:
    """Attach what was decided on deleted products with this product's SKU."""
    if product.sku:
        _attach(product, DeletedProduct.objects.filter(sku=product.sku).values_list("former_id", flat=True))


def attach_by_image(image: ProductImage) -> None:
    """Attach what was decided on the one deleted product that had this image.

    Nothing is attached if the image does not tell products apart: several deleted ones had it, or another product
    has it now. The new one of a pair with the same image is not taken for that of the catalogue.
    """
    product = image.product
    found = list(
        DeletedProduct.objects.filter(images__sha256=image.sha256, is_historical=product.is_historical)
        .values_list("former_id", flat=True)
        .distinct()[:2]
    )
    if len(found) == 1:
        others = ProductImage.objects.filter(sha256=image.sha256, product__is_historical=product.is_historical)
        if not others.exclude(product=product).exists():
            _attach(product, found)


def forget(until: datetime | None = None) -> int:
    """Forget the deleted products with all that was decided on them, or those deleted until then. Return how many."""
    gone = DeletedProduct.objects.order_by("former_id")
    if until is not None:
        gone = gone.filter(deleted_at__lte=until)
    return _forget(list(gone.values_list("former_id", flat=True)))


def _forget(former_ids: Sequence[int]) -> int:
    for ids in iter_batches(former_ids):
        with transaction.atomic():
            list(DeletedProduct.objects.select_for_update().filter(former_id__in=ids).order_by("former_id"))
            KeptVerdict.objects.filter(Q(product_id__in=ids) | Q(candidate_id__in=ids)).delete()
            KeptDecision.objects.filter(product_id__in=ids).delete()
            DeletedProduct.objects.filter(former_id__in=ids).delete()
    return len(former_ids)


def _judged() -> QuerySet[Match]:
    return Match.objects.exclude(review_status=Match.Status.PENDING, note="")


def _attach(product: Product, former_ids: Iterable[int]) -> None:
    """Let this product take the place of deleted ones, and restore what no longer waits for another product."""
    for former_id in former_ids:
        with transaction.atomic():
            # The lock keeps two imports from attaching the same decisions.
            if not DeletedProduct.objects.select_for_update().filter(former_id=former_id).exists():
                continue
            KeptVerdict.objects.filter(product_id=former_id).update(product_id=product.pk)
            KeptVerdict.objects.filter(candidate_id=former_id).update(candidate_id=product.pk)
            if not KeptDecision.objects.filter(product_id=product.pk).exists():
                KeptDecision.objects.filter(product_id=former_id).update(product_id=product.pk)
            DeletedProduct.objects.filter(former_id=former_id).delete()
            verdicts = KeptVerdict.objects.filter(Q(product_id=product.pk) | Q(candidate_id=product.pk))
            pairs = list(verdicts.values_list("product_id", "candidate_id"))
            # Deletions lock products before decisions, too.
            others = Product.objects.filter(pk__in={pk for pair in pairs for pk in pair}).order_by("pk")
            list(others.select_for_update(no_key=True).values_list("pk"))
            _rename(former_id, product.pk, [case for case, _candidate in pairs])
            _restore_decision(product)
            _restore_verdicts(verdicts)


def _rename(old: int, new: int, cases: Sequence[int]) -> None:
    """Name a candidate by its new id in the decisions on these products."""
    decisions: list[tuple[Any, QuerySet[Any]]] = [
        (Decision, Decision.objects.filter(product__in=cases)),
        (KeptDecision, KeptDecision.objects.filter(product_id__in=cases)),
    ]
    for model, rows in decisions:
        changed = []
        for row in rows.select_for_update().order_by("pk"):
            row.candidates = sorted(new if pk == old else pk for pk in row.candidates)
            row.shown = [item | {"candidate": new} if item["candidate"] == old else item for item in row.shown]
            changed.append(row)
        model.objects.bulk_update(changed, ["candidates", "shown"], batch_size=100)


def _restore_decision(product: Product) -> None:
    """Restore the kept decision on this product. A newer one on it counts more."""
    for kept in KeptDecision.objects.filter(product_id=product.pk):
        if not Decision.objects.filter(product=product).exists():
            Decision.objects.bulk_create([_copy(kept, Decision, _DECISION)])
            Decision.history.filter(id=kept.former_id).update(product_id=product.pk)
        kept.delete()


def _restore_verdicts(verdicts: QuerySet[KeptVerdict]) -> None:
    """Restore those of these verdicts of which both products exist. A newer verdict counts more."""
    existing = Product.objects.filter(pk=OuterRef("product_id"))
    other = Product.objects.filter(pk=OuterRef("candidate_id"))
    for kept in list(verdicts.filter(Exists(existing), Exists(other)).select_for_update().order_by("pk")):
        pair = Match.objects.filter(product_id=kept.product_id, candidate_id=kept.candidate_id)
        waiting = pair.filter(review_status=Match.Status.PENDING, note="")
        waiting.delete()
        if kept.product_id != kept.candidate_id and not pair.exists():
            match = _copy(kept, Match, _VERDICT)
            Match.objects.bulk_create([match])
            Match.history.filter(id=match.pk).update(product_id=kept.product_id, candidate_id=kept.candidate_id)
        kept.delete()


def _copy(row: Any, model: Any, names: Sequence[str]) -> Any:
    """Return an unsaved row of another model with the same values and the same id."""
    return model(pk=row.pk, **{name: getattr(row, name) for name in names})
