"""Mark evidence as wrong, and take that back. The probabilities are computed again at once."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from core.history.recording import acting_as, current_source
from matching import service
from matching.answers.marks import NUMBERS
from matching.index import SearchVectorError
from matching.models import EvidenceMark, Match
from products.models import Product
from products.queue.query_features import FeaturesPendingError

PAIR, PRODUCT, CANDIDATE = "pair", "product", "candidate"
IMAGE_KINDS = ("image", "image_lead")  # what images say follows from the images, and another image changes it


def mark(match_id: int, kind: str, reviewer: AbstractBaseUser, of: str = PAIR) -> Product:
    """Mark one piece of the evidence of a match as wrong. Return the new product.

    ``of``: PAIR for this pair alone, PRODUCT or CANDIDATE if a number of that product is wrong beside any other.
    Raises Match.DoesNotExist, and ValidationError for evidence that the match does not have.
    """
    with transaction.atomic():
        match = Match.objects.select_related("product", "candidate").get(pk=match_id)
        item = next((item for item in match.evidence if item["kind"] == kind), None)
        if item is None or kind in IMAGE_KINDS:
            raise ValidationError(_("This match has no such evidence, or it cannot be marked."), code="unknown")
        if of not in (PAIR, PRODUCT, CANDIDATE) or (of != PAIR and kind not in NUMBERS):
            raise ValidationError(_("Only a number can be wrong for a product as a whole."), code="unknown")
        product = match.candidate if of == CANDIDATE else match.product
        candidate = match.candidate if of == PAIR else None
        if not EvidenceMark.objects.filter(product=product, candidate=candidate, kind=kind).exists():
            with acting_as(current_source(), reviewer):
                EvidenceMark.objects.create(
                    product=product, candidate=candidate, kind=kind, text=str(item["text"])[:500],
                    marked_by_id=reviewer.pk, marked_at=timezone.now(),
                )  # fmt: skip
    _compute_again(match.product, product)
    return match.product


def unmark(mark_id: int, product_id: int, reviewer: AbstractBaseUser) -> None:
    """Take a mark back, and compute the probabilities of this new product again. A mark that is gone stays gone."""
    stored = EvidenceMark.objects.filter(pk=mark_id).select_related("product").first()
    if stored is None:
        return
    with acting_as(current_source(), reviewer):
        stored.delete()
    _compute_again(Product.objects.get(pk=product_id), stored.product)


def _compute_again(asked: Product, marked: Product) -> None:
    """Compute the answer of a case at once. Let the workers do the other open cases with the marked product."""
    others = Match.objects.filter(candidate=marked, review_status=Match.Status.PENDING).exclude(product=asked)
    Product.objects.filter(pk__in=others.values("product"), is_historical=False).update(unmatched_since=timezone.now())
    try:
        service.match_again(asked.pk)
    except (FeaturesPendingError, SearchVectorError, Product.DoesNotExist):
        # Its images are not ready. It is matched when they are.
        Product.objects.filter(pk=asked.pk, is_historical=False).update(unmatched_since=timezone.now())
