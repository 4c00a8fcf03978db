"""A case: a new product, its candidates, the decision on it, and the version that a decision is made on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from matching.answers.estimates import is_probable
from matching.models import Decision, Match, ProductAnswer
from products.models import Product

OPEN, DECIDED = "open", "decided"
NEW_PRODUCT, DUPLICATE = "new", "duplicate"  # kinds of cases
FOUND_TOGETHER = timedelta(seconds=1)  # the matches that one search saves get their times one after the other
POSITIVE = (Match.Status.CONFIRMED, Match.Status.VARIANT)  # verdicts that say which product it is


@dataclass(frozen=True, slots=True)
class Case:
    """A product with its matches, best first, and the decision, if any.

    ``kept``: after a decision or an undo, sentences about values that an earlier decision gave to products and that
    stay, because a user has changed them since.
    """

    product: Product
    matches: list[Match]
    decision: Decision | None
    kept: tuple[str, ...] = ()

    @property
    def answer(self) -> ProductAnswer | None:
        """Return what the program says about the product, from its last matching."""
        return getattr(self.product, "answer", None)

    @property
    def version(self) -> str:
        """Return a text that changes with the candidates, their verdicts and the decision."""
        return version_of(self.matches, self.decision)

    @property
    def state(self) -> str:
        """Return OPEN if a reviewer has something to decide, else DECIDED."""
        return OPEN if self.decision is None or any(is_pending(match) for match in self.matches) else DECIDED

    @property
    def kind(self) -> str:
        """Return DUPLICATE if the product is part of the catalogue itself, else NEW_PRODUCT."""
        return DUPLICATE if self.product.is_historical else NEW_PRODUCT

    @property
    def has_better_candidate(self) -> bool:
        """Return whether the best candidate came into the case later than others."""
        return bool(self.matches) and self.matches[0].pk in found_later(self.matches)


def read_case(product_id: int, products: QuerySet[Product] | None = None) -> Case:
    """Return a case. Raises Product.DoesNotExist."""
    product = (Product.objects.all() if products is None else products).get(pk=product_id)
    return case_of(product, list(product.matches.select_related("candidate", "reviewer")))


def case_of(product: Product, matches: Sequence[Match]) -> Case:
    """Return the case of a product whose matches are read already."""
    best_first = sorted(matches, key=lambda match: (-(match.probability or 0.0), -match.similarity_score, match.pk))
    return Case(product, best_first, decision_of(product))


def decision_of(product: Product) -> Decision | None:
    """Return the decision on a product's case, or None."""
    return getattr(product, "decision", None)


def cases(state: str = "") -> QuerySet[Product]:
    """Return the products that are a case, newest first: new products, and others that have matches.

    ``state``: OPEN or DECIDED, or all. An open case has a candidate that waits for a verdict.
    """
    pending = Exists(Match.objects.filter(product=OuterRef("pk"), review_status=Match.Status.PENDING))
    products: QuerySet[Product] = Product.objects.order_by("-id")
    if state == OPEN:
        return products.filter(pending)
    if state == DECIDED:
        return products.filter(~pending, decision__isnull=False)
    of_others = Exists(Match.objects.filter(product=OuterRef("pk")))
    return products.filter(Q(is_historical=False) | Q(decision__isnull=False) | of_others)


def version_of(matches: Sequence[Match], decision: Decision | None) -> str:
    """Return the version of a case with these matches and this decision."""
    verdicts = sorted((match.candidate_id, match.review_status, _time(match.reviewed_at)) for match in matches)
    made = None if decision is None else [decision.pk, decision.kind, decision.candidates, _time(decision.decided_at)]
    return hashlib.sha256(json.dumps([verdicts, made]).encode()).hexdigest()[:16]


def found_later(matches: Sequence[Match]) -> set[int]:
    """Return the ids of pending matches that were found after the first ones of their case."""
    first = min((match.created_at for match in matches), default=None)
    if first is None:
        return set()
    return {match.pk for match in matches if is_pending(match) and match.created_at > first + FOUND_TOGETHER}


def probable_candidates(matches: Sequence[Match]) -> list[int]:
    """Return the ids of the candidates that the new product is confirmed to be, or probably is."""
    return [match.candidate_id for match in matches if is_probable(match.review_status, match.probability)]


def is_pending(match: Match) -> bool:
    """Return whether a match waits for a verdict."""
    return match.review_status == Match.Status.PENDING


def decision_in_words(decision: Decision) -> str:
    """Return a decision as a sentence part, such as "the same as Mug 3, Mug 4"."""
    names = dict(Product.objects.filter(pk__in=decision.candidates).values_list("pk", "name"))
    named = ", ".join(names.get(pk) or f"#{pk}" for pk in decision.candidates)
    match decision.kind:
        case Decision.Kind.SAME:
            return _("the same as %(names)s") % {"names": named}
        case Decision.Kind.VARIANT:
            return _("a variant of %(names)s") % {"names": named}
        case Decision.Kind.NEW:
            return _("none of these, a new product")
        case _other:
            return _("cannot tell")


def decision_document(decision: Decision | None) -> dict[str, Any] | None:
    """Return a decision as the API shows it."""
    if decision is None:
        return None
    return {
        "decision": decision.kind,
        "candidates": decision.candidates,
        "differs": decision.differs,
        "reason": decision.reason,
        "note": decision.note,
        "by": decision.reviewer.get_username() if decision.reviewer else None,
        "automatic": decision.automatic,
        "at": decision.decided_at,
    }


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()
