"""Merge one product into another: images, values, matches and decisions. One transaction, which can be undone.

``ProductMerge.before`` holds what undoing needs.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from core.database.batches import iter_batches
from core.database.locks import lock_names
from core.history.recording import acting_as, current_source
from matching.models import Decision, Match
from matching.review.cases import POSITIVE, is_pending
from matching.review.consequences import field_name, value_of
from matching.review.decisions import StaleError
from products.api.etags import product_version
from products.attributes import ShortenedAttributes
from products.images import intake
from products.models import Feature, Product, ProductImage, ProductMerge, SameAs
from products.prices import format_price

TEXTS = ("name", "category", "description", "gtin", "mpn", "brand")
PRICE = "price"  # with its currency
ATTRIBUTE = "attributes:"  # before the name of an attribute
REFERENCE = "merge"  # in the reason of history entries
LOCK = "merges"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of both products. ``key`` names it in ``take``. "" stands for no value."""

    key: str
    label: str
    kept: Any
    other: Any


@dataclass(frozen=True, slots=True)
class Preview:
    """What a merge would do. ``conflicts``: both have a value, ``filled``: only the other one has."""

    kept: Product
    other: Product
    version: str
    conflicts: list[Value] = field(default_factory=list)
    filled: list[Value] = field(default_factory=list)
    images: int = 0
    identical_images: int = 0
    matches: int = 0
    decisions: int = 0

    @property
    def joins_catalogue(self) -> bool:
        """Return whether the kept product becomes part of the catalogue, because the other one is."""
        return self.other.is_historical and not self.kept.is_historical


def preview(kept_id: int, other_id: int) -> Preview:
    """Return what ``merge`` would do. Raises Product.DoesNotExist and ValidationError."""
    products = _products(kept_id, other_id)
    kept, other = products[kept_id], products[other_id]
    conflicts, filled = _compare(kept, other)
    own = {image.sha256 for image in kept.images.all()}
    identical = sum(image.sha256 in own for image in other.images.all())
    touched = Match.objects.filter(Q(product=other) | Q(candidate=other))
    touched = touched.exclude(product=kept).exclude(candidate=kept)
    decided = touched.exclude(review_status=Match.Status.PENDING).order_by().values("product").distinct()
    return Preview(
        kept, other, _version(kept, other), conflicts, filled, len(other.images.all()) - identical, identical,
        touched.count(), decided.count(),
    )  # fmt: skip


def merge(
    kept_id: int, other_id: int, user: AbstractBaseUser, take: Collection[str] = (), version: str | None = None
) -> ProductMerge:
    """Merge the other product into the kept one and delete it.

    The kept one's values win, but for the keys in ``take``. What it lacks comes from the other one. ``version``: of the
    preview that the user saw. Raises Product.DoesNotExist, ValidationError for a product with itself or an unknown key,
    StaleError, and NoRoomError.
    """
    now = timezone.now()
    with transaction.atomic(), acting_as(current_source(), user, f"{REFERENCE} {kept_id}"):
        lock(kept_id, other_id)
        products = _products(kept_id, other_id)
        kept, other = products[kept_id], products[other_id]
        if version is not None and version != _version(kept, other):
            text = _("One of the products has changed since you saw it. Look at both again.")
            raise StaleError("stale", text, {"version": _version(kept, other)})
        changes = _changes(kept, other, take)
        before: dict[str, Any] = {
            "into": kept_id,
            "product": _rows([other]),
            "kept": {name: plain(getattr(kept, name)) for name in changes},
            "merges": list(ProductMerge.objects.filter(kept=other).values_list("pk", flat=True)),
        }
        before |= _move_images(kept, other)
        before |= _move_matches(kept, other)
        before |= _move_links(kept, other)
        ProductMerge.objects.filter(kept=other).update(kept=kept)
        other.delete()
        if changes:
            intake.change_product(kept, changes)
        before["given"] = {name: plain(getattr(kept, name)) for name in changes}
        Product.objects.filter(pk=kept.pk).update(unmatched_since=now)
        return ProductMerge.objects.create(
            old_id=other_id, old_sku=other.sku, kept=kept, merged_at=now, merged_by_id=user.pk, before=before
        )


def _products(kept_id: int, other_id: int) -> dict[int, Product]:
    if kept_id == other_id:
        raise ValidationError({"product_id": _("A product cannot be merged into itself.")})
    products = Product.objects.prefetch_related("images", "same_as_links").in_bulk([kept_id, other_id])
    for pk in (kept_id, other_id):
        if pk not in products:
            raise Product.DoesNotExist(_("There is no product %(id)s.") % {"id": pk})
        if isinstance(products[pk].attributes, ShortenedAttributes):
            text = _("The attributes of %(product)s are over the limits. Replace them on its page first.")
            raise ValidationError({"product_id": text % {"product": products[pk]}})
    return products


def _version(kept: Product, other: Product) -> str:
    return hashlib.sha256(f"{product_version(kept)} {product_version(other)}".encode()).hexdigest()[:16]


def _compare(kept: Product, other: Product) -> tuple[list[Value], list[Value]]:
    """Return the values in which both differ, and those that only the other one has."""
    values = [Value(name, field_name(name), getattr(kept, name), getattr(other, name)) for name in TEXTS]
    values.append(Value(PRICE, field_name(PRICE), _price(kept), _price(other)))
    if not kept.sku:
        values.append(Value("sku", field_name("sku"), "", other.sku))
    values += [
        Value(f"{ATTRIBUTE}{name}", name, kept.attributes.get(name, ""), value)
        for name, value in other.attributes.items()
    ]
    present = [value for value in values if value.other != "" and value.other != value.kept]
    return [value for value in present if value.kept != ""], [value for value in present if value.kept == ""]


def _price(product: Product) -> str:
    return "" if product.price is None else f"{format_price(product.price)} {product.currency}".strip()


def _changes(kept: Product, other: Product, take: Collection[str]) -> dict[str, Any]:
    """Return the fields of the kept product that change. Raises ValidationError for a key that is no conflict."""
    conflicts, filled = _compare(kept, other)
    unknown = sorted(set(take) - {value.key for value in conflicts})
    if unknown:
        text = _("Not a value in which the products differ: %(names)s.") % {"names": ", ".join(unknown[:10])}
        raise ValidationError({"take": text})
    changes: dict[str, Any] = {}
    for key in [value.key for value in filled] + [value.key for value in conflicts if value.key in take]:
        if key == PRICE:
            changes |= {"price": other.price, "currency": other.currency}
        elif key.startswith(ATTRIBUTE):
            attributes = changes.setdefault("attributes", dict(kept.attributes))
            attributes[key.removeprefix(ATTRIBUTE)] = other.attributes[key.removeprefix(ATTRIBUTE)]
        else:
            changes[key] = getattr(other, key)
    if other.is_historical and not kept.is_historical:
        changes["is_historical"] = True
    return changes


def lock(kept_id: int, other_id: int) -> None:
    """Lock all that a merge changes: images before products before matches, as workers, deletions and decisions do."""
    lock_names([LOCK])
    ids = [kept_id, other_id]
    skus = Product.objects.filter(pk__in=ids).exclude(sku="").values_list("sku", flat=True)
    lock_names([f"sku {sku}" for sku in skus])
    list(ProductImage.objects.select_for_update().filter(product__in=ids).order_by("pk").values_list("pk"))
    reviewed = Match.objects.filter(candidate__in=ids).order_by().values_list("product", flat=True)
    products = Product.objects.select_for_update(no_key=True).order_by("pk")
    for batch in iter_batches(sorted({*ids, *reviewed})):
        list(products.filter(pk__in=batch).values_list("pk"))
    matches = Match.objects.select_for_update().filter(Q(product__in=ids) | Q(candidate__in=ids))
    list(matches.order_by("pk").values_list("pk"))


def _move_images(kept: Product, other: Product) -> dict[str, Any]:
    """Give the kept product the other one's images, but not those that it has. Those are deleted with the other one."""
    twins = {image.sha256: image.pk for image in kept.images.all()}
    images = list(other.images.all())
    moved = [image for image in images if image.sha256 not in twins]
    identical = [image for image in images if image.sha256 in twins]
    positions = {image.pk: image.position for image in moved}
    first = max((image.position for image in kept.images.all()), default=-1) + 1
    for position, image in enumerate(moved, start=first):
        ProductImage.objects.filter(pk=image.pk).update(product=kept, position=position)
    Feature.objects.filter(image__in=list(positions)).update(product=kept)
    return {
        "images": positions,
        "identical": _rows(identical),
        "twins": {image.pk: twins[image.sha256] for image in identical},
    }


def _move_matches(kept: Product, other: Product) -> dict[str, Any]:
    """Make the other product's matches and decisions those of the kept one.

    If both have a match with the same product, a verdict that says which product it is wins, then any verdict, then the
    kept one's. What is left at the other product is deleted.
    """
    both = [kept.pk, other.pk]
    matches = list(Match.objects.filter(Q(product__in=both) | Q(candidate__in=both)).order_by("pk"))
    touched = {match.product_id for match in matches} | set(both)
    decisions = {one.product_id: one for one in Decision.objects.filter(product__in=touched)}
    before = {"matches": _rows(matches), "decisions": _rows(decisions.values())}
    groups: dict[tuple[int, int], list[Match]] = defaultdict(list)
    for match in matches:
        ends = tuple(kept.pk if pk == other.pk else pk for pk in (match.product_id, match.candidate_id))
        if ends[0] != ends[1]:
            groups[ends[0], ends[1]].append(match)
    moved: list[Match] = []
    dropped: list[int] = []
    for ends, group in groups.items():
        group.sort(key=lambda match: (_strength(match), other.pk not in (match.product_id, match.candidate_id)))
        dropped += [match.pk for match in group[:-1]]
        winner = group[-1]
        if (winner.product_id, winner.candidate_id) != ends:
            winner.product_id, winner.candidate_id = ends
            moved.append(winner)
    Match.objects.filter(pk__in=dropped).delete()
    Match.objects.bulk_update(moved, ["product", "candidate"], batch_size=100)
    left = {product for product, _candidate in groups}
    for product_id, decision in decisions.items():
        _move_decision(decision, kept, other, has_matches=product_id in left, kept_has_one=kept.pk in decisions)
    # Before the other product, so that these are not kept for its next import, as decisions on deleted products are.
    for rows in (Match.objects.filter(Q(product=other) | Q(candidate=other)), Decision.objects.filter(product=other)):
        rows._raw_delete(rows.db)
    return before


def _strength(match: Match) -> int:
    return 2 if match.review_status in POSITIVE else 0 if is_pending(match) else 1


def _move_decision(decision: Decision, kept: Product, other: Product, *, has_matches: bool, kept_has_one: bool) -> None:
    """Let a decision name the kept product instead of the other one. It decides no product to be itself."""
    owner = kept.pk if decision.product_id == other.pk else decision.product_id
    candidates = sorted({kept.pk if pk == other.pk else pk for pk in decision.candidates} - {owner})
    if decision.product_id == other.pk and (kept_has_one or (decision.candidates and not candidates)):
        return  # deleted with the other product
    rows = Decision.objects.filter(pk=decision.pk)
    kind = decision.kind
    if decision.candidates and not candidates:
        # It was the other product, and none of the remaining candidates.
        if not has_matches:
            rows.delete()
            return
        kind = Decision.Kind.NEW
    # What the kept product had already is its own and no effect of the decision.
    effects = [
        {**effect, "product": kept.pk} if effect["product"] == other.pk else effect
        for effect in decision.effects
        if effect["product"] != other.pk or not value_of(kept, effect)
    ]
    rows.update(product=owner, candidates=candidates, kind=kind, effects=effects)


def _move_links(kept: Product, other: Product) -> dict[str, Any]:
    links = SameAs.objects.filter(Q(product=other) | Q(other=other))
    pairs = list(links.order_by("pk").values_list("product", "other"))
    replaced = {(kept.pk if a == other.pk else a, kept.pk if b == other.pk else b) for a, b in pairs}
    existing = SameAs.objects.filter(Q(product=kept) | Q(other=kept)).values_list("product", "other")
    new = sorted({(a, b) for a, b in replaced if a != b} - set(existing))
    SameAs.objects.bulk_create([SameAs(product_id=a, other_id=b) for a, b in new])
    return {"links": pairs, "new_links": new}


def _rows(rows: Iterable[models.Model]) -> Any:
    """Return rows as JSON, with times to the microsecond."""
    return json.loads(json.dumps(serializers.serialize("python", list(rows)), default=_text))


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def plain(value: Any) -> Any:
    """Return a value of a product as JSON keeps it."""
    return value if value is None or isinstance(value, (str, bool, dict)) else str(value)
