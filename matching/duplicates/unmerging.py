"""Undo a merge: the product that was merged comes back with its id, images, matches and decisions.

What a user has changed since stays as it is, and is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, User
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from core.history.recording import acting_as, current_source, record_creations
from matching.duplicates.merging import REFERENCE, lock, plain
from matching.models import Decision, Match
from matching.review.consequences import field_name
from products.images import intake, storage
from products.models import Feature, Product, ProductImage, ProductMerge, SameAs

_MATCH_VALUES = ("review_status", "reviewed_at", "note")
_DECISION_VALUES = ("kind", "candidates", "decided_at", "effects")


def undo(old_id: int, user: AbstractBaseUser) -> list[str]:
    """Undo the merge of the product that had this id. Return sentences about what stays.

    Raises ProductMerge.DoesNotExist, ValidationError if a later merge must be undone first, and NoRoomError.
    """
    now = timezone.now()
    copies: list[str] = []
    kept_sentences: list[str] = []
    try:
        with transaction.atomic(), acting_as(current_source(), user, f"{REFERENCE} undone"):
            merge = ProductMerge.objects.get(old_id=old_id)
            lock(merge.kept_id, old_id)
            merge = ProductMerge.objects.select_related("kept").get(old_id=old_id)  # once more, behind the lock
            before, kept = merge.before, merge.kept
            if before["into"] != kept.pk:
                text = _("Product %(id)s was merged too. Undo that merge first.") % {"id": before["into"]}
                raise ValidationError({"product_id": text})
            _restore_kept(kept, before, kept_sentences)
            old = _restore_product(before, now, user)
            _restore_images(kept, old, before, copies, kept_sentences)
            changed = _restore_rows(Match, before["matches"], _MATCH_VALUES)
            changed += _restore_rows(Decision, before["decisions"], _DECISION_VALUES)
            if changed:
                kept_sentences.append(_("Decisions that were made since the merge stay as they are."))
            _restore_links(before)
            ProductMerge.objects.filter(pk__in=before["merges"], kept=kept).update(kept=old)
            merge.delete()
            Product.objects.filter(pk__in=[kept.pk, old.pk]).update(unmatched_since=now)
    except BaseException:
        storage.delete_files(copies)
        raise
    return kept_sentences


def _restore_kept(kept: Product, before: dict[str, Any], sentences: list[str]) -> None:
    """Give the kept product the values back that the merge changed, except those that were changed since."""
    changes: dict[str, Any] = {}
    columns: dict[str, Any] = {column.name: column for column in Product._meta.fields}
    for name, old in before["kept"].items():
        given = before["given"][name]
        if name != "attributes":
            if plain(getattr(kept, name)) == given:
                changes[name] = columns[name].to_python(old)
            elif plain(getattr(kept, name)) != old:
                sentences.append(_sentence(kept, field_name(name)))
            continue
        attributes = dict(kept.attributes)
        for one in (one for one in given if given[one] != old.get(one)):
            if attributes.get(one) == given[one]:
                if one in old:
                    attributes[one] = old[one]
                else:
                    del attributes[one]
            elif attributes.get(one) != old.get(one):
                sentences.append(_sentence(kept, one))
        changes["attributes"] = attributes
    if changes:
        intake.change_product(kept, changes)


def _sentence(product: Product, name: str) -> str:
    return _("%(product)s keeps its %(name)s, which was changed since.") % {"product": product, "name": name}


def _restore_product(before: dict[str, Any], now: datetime, user: AbstractBaseUser) -> Product:
    """Create the product again with its id. Raises ValidationError if its SKU is taken."""
    [restored] = serializers.deserialize("python", before["product"])
    old: Any = restored.object
    if (other := Product.objects.filter(sku=old.sku).exclude(sku="").first()) is not None:
        text = _("Product %(id)s has the SKU %(sku)s now. Give it another one first.")
        raise ValidationError({"sku": text % {"id": other.pk, "sku": old.sku}})
    restored.save()
    record_creations(Product.objects.filter(pk=old.pk), user, now)
    product: Product = old
    return product


def _restore_images(
    kept: Product, old: Product, before: dict[str, Any], copies: list[str], sentences: list[str]
) -> None:
    """Move images back, and copy those that both products had."""
    moved = ProductImage.objects.filter(product=kept, pk__in=list(before["images"]))
    ids = list(moved.values_list("pk", flat=True))
    for image_id in ids:
        ProductImage.objects.filter(pk=image_id).update(product=old, position=before["images"][str(image_id)])
    Feature.objects.filter(image__in=ids).update(product=old)
    lost = len(before["images"]) - len(ids)
    twins = ProductImage.objects.in_bulk(before["twins"].values())
    for row in before["identical"]:
        twin = twins.get(before["twins"][str(row["pk"])])
        try:
            name = storage.copy_files(str(twin.file.name)) if twin is not None else None
        except OSError:
            name = None
        if twin is None or name is None:
            lost += 1
            continue
        copies.append(name)
        _copy_image(twin, old, row, name)
    if lost:
        sentences.append(_("Images that were deleted since the merge do not come back: %(count)d.") % {"count": lost})


def _copy_image(twin: ProductImage, old: Product, row: dict[str, Any], name: str) -> None:
    """Create an image again from its twin, with the twin's state and features."""
    features = list(Feature.objects.filter(image=twin))
    image = ProductImage.objects.get(pk=twin.pk)
    image.pk, image.product, image.file = row["pk"], old, name
    image.position, image.original_name = row["fields"]["position"], row["fields"]["original_name"]
    if image.state == ProductImage.State.CLAIMED:  # the worker has claimed the twin
        image.state, image.claim_token, image.claimed_at = ProductImage.State.PENDING, None, None
    image.save(force_insert=True)
    for feature in features:
        feature.pk, feature.image, feature.product = None, image, old
    Feature.objects.bulk_create(features)


def _restore_rows(model: Any, rows: Sequence[dict[str, Any]], values: Iterable[str]) -> int:
    """Restore matches or decisions as they were, first those that exist. Return how many were changed since."""
    objects: list[Any] = [restored.object for restored in serializers.deserialize("python", rows)]
    users = set(User.objects.filter(pk__in={one.reviewer_id for one in objects}).values_list("pk", flat=True))
    present = model.objects.in_bulk([one.pk for one in objects])
    products = set(
        Product.objects.filter(
            pk__in={pk for one in objects for pk in (one.product_id, getattr(one, "candidate_id", one.product_id))}
        ).values_list("pk", flat=True)
    )
    changed = 0
    for one in sorted(objects, key=lambda one: one.pk not in present):
        if {one.product_id, getattr(one, "candidate_id", one.product_id)} - products:
            continue  # deleted since
        if one.reviewer_id not in users:
            one.reviewer = None
        now = present.get(one.pk)
        if now is not None and _decided_since(now, one):
            changed += 1
            for name in values:
                setattr(one, name, getattr(now, name))
            one.reviewer_id = now.reviewer_id
        if now is None and _is_taken(one):
            changed += 1
            continue
        one.save_base(raw=True)
    return changed


def _decided_since(now: Any, before: Any) -> bool:
    name = "decided_at" if isinstance(now, Decision) else "reviewed_at"
    return bool(getattr(now, name) != getattr(before, name))


def _is_taken(row: Any) -> bool:
    """Return whether another row has the place of this one."""
    pair = {"product": row.product_id}
    if isinstance(row, Match):
        pair["candidate"] = row.candidate_id
    return bool(type(row)._default_manager.filter(**pair).exists())


def _restore_links(before: dict[str, Any]) -> None:
    for product, other in before["new_links"]:
        SameAs.objects.filter(product=product, other=other).delete()
    ids = {pk for pair in before["links"] for pk in pair}
    existing = set(Product.objects.filter(pk__in=ids).values_list("pk", flat=True))
    SameAs.objects.bulk_create(
        [SameAs(product_id=a, other_id=b) for a, b in before["links"] if {a, b} <= existing], ignore_conflicts=True
    )
