"""Which evidence reviewers marked as wrong, so that answers are computed without it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import Q

from matching.answers.models import EvidenceMark

# Evidence that a wrong number of one product makes wrong beside every other one.
NUMBERS = ("identifier", "part_number")


@dataclass(frozen=True, slots=True)
class Wrong:
    """Kinds of evidence that do not count for a product: beside any other, beside one, and by its candidate."""

    own: frozenset[str] = frozenset()
    of_pair: dict[int, set[str]] = field(default_factory=dict)
    of_candidate: dict[int, set[str]] = field(default_factory=dict)

    def beside(self, candidate: int) -> set[str]:
        """Return the kinds that do not count beside this candidate."""
        return {*self.own, *self.of_pair.get(candidate, ()), *self.of_candidate.get(candidate, ())}


def wrong_evidence(product: int | None) -> Wrong:
    """Return what was marked as wrong about a stored product and about any other, in one short query."""
    if product is None:
        return Wrong()
    marks = EvidenceMark.objects.filter(Q(product=product) | Q(candidate__isnull=True))
    own: set[str] = set()
    of_pair: dict[int, set[str]] = defaultdict(set)
    of_candidate: dict[int, set[str]] = defaultdict(set)
    rows: Iterable[tuple[int, int | None, str]] = marks.values_list("product_id", "candidate_id", "kind")
    for owner, candidate, kind in rows:
        if owner != product:
            of_candidate[owner].add(kind)
        elif candidate is None:
            own.add(kind)
        else:
            of_pair[candidate].add(kind)
    return Wrong(frozenset(own), of_pair, of_candidate)


def marks_of(product: int, candidates: Iterable[int]) -> dict[int, list[EvidenceMark]]:
    """Return the marks that count for a product beside each of these candidates."""
    ids = list(candidates)
    found = EvidenceMark.objects.filter(
        Q(product=product, candidate__in=ids) | Q(product__in=[product, *ids], candidate__isnull=True)
    ).select_related("marked_by", "product")
    shown: dict[int, list[EvidenceMark]] = {candidate: [] for candidate in ids}
    for mark in found.order_by("pk"):
        if mark.candidate_id is not None:
            shown[mark.candidate_id].append(mark)
        elif mark.product_id == product:
            for of_candidate in shown.values():
                of_candidate.append(mark)
        else:
            shown[mark.product_id].append(mark)
    return shown
