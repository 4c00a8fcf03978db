"""What a decision does to products besides its verdicts, and how undoing the decision takes that back.

The page Settings says what a decision does. Each decision remembers what it did in ``Decision.effects``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from matching.models import Decision
from products import preferences
from products.attributes import ShortenedAttributes, clean_attributes
from products.images import intake
from products.models import Product, SameAs

NO, PROPOSE, CARRY_OVER = "no", "propose", "carry over"
FIELDS = ("category", "brand", "gtin", "mpn")
ATTRIBUTES, CATALOGUE = "attributes", "is_historical"

_GROUP = gettext_lazy("What a decision does")
_CHOICES = [
    (NO, gettext_lazy("nothing")),
    (PROPOSE, gettext_lazy("propose them on the product's page")),
    (CARRY_OVER, gettext_lazy("carry them over at once")),
]


def _switch(label: Any, help_text: Any) -> Any:
    return lambda: forms.BooleanField(label=label, help_text=help_text, required=False)


def _choice(label: Any, help_text: Any) -> Any:
    return lambda: forms.ChoiceField(label=label, help_text=help_text, choices=_CHOICES)


VIEWS = preferences.declare(
    "decisions.views", _GROUP, True,
    _switch(
        gettext_lazy("The same: the new product's images become views of the catalogue product"),
        gettext_lazy(
            "Learned heads then learn from these images and search them too. A new product that is the same as "
            "several is left out. Counts for decisions from now on."
        ),
    ),
)  # fmt: skip
LINK = preferences.declare(
    "decisions.link", _GROUP, True,
    _switch(
        gettext_lazy("The same: the new product gets a link to the catalogue product"),
        gettext_lazy("The API and exports show it as same_as. Counts for decisions from now on."),
    ),
)  # fmt: skip
FILL_NEW = preferences.declare(
    "decisions.fill_new", _GROUP, PROPOSE,
    _choice(
        gettext_lazy("The same: what the new product lacks and the catalogue product has"),
        gettext_lazy("Category, brand, GTIN, MPN and attributes. Values that are there are never replaced."),
    ),
)  # fmt: skip
FILL_CATALOGUE = preferences.declare(
    "decisions.fill_catalogue", _GROUP, PROPOSE,
    _choice(
        gettext_lazy("The same: what the catalogue product lacks and the new product has"),
        gettext_lazy("Category, brand, GTIN, MPN and attributes. Values that are there are never replaced."),
    ),
)  # fmt: skip
JOIN = preferences.declare(
    "decisions.join", _GROUP, False,
    _switch(
        gettext_lazy("None of these: the new product becomes part of the catalogue"),
        gettext_lazy("Later products are then compared with it too."),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that a product lacks and another one has. ``name``: of an attribute, or "" for a field."""

    field: str
    name: str
    value: Any

    @property
    def key(self) -> str:
        """Return the fact's name in forms."""
        return f"{self.field}:{self.name}"

    @property
    def label(self) -> str:
        return self.name or field_name(self.field)


class Consequences:
    """Applies and takes back the consequences of decisions, by the settings of this moment.

    Used within the decisions' transaction, with their products and candidates locked. ``kept``: sentences about values
    that were not taken back, because a user has changed them since.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self._links: list[SameAs] = []

    def take_back(self, decisions: Sequence[Decision]) -> None:
        """Take back what these decisions did, except what a user has changed since."""
        if not decisions:
            return
        SameAs.objects.filter(product__in=[decision.product_id for decision in decisions]).delete()
        for decision in decisions:
            self._take_back(decision.effects)
            decision.effects, decision.images_are_views = [], True

    def apply(self, decision: Decision) -> None:
        """Do what follows from a decision. The caller saves the decision, then calls ``finish``."""
        if decision.kind == Decision.Kind.NEW and self._joins:
            product = Product.objects.get(pk=decision.product_id)
            if not product.is_historical:
                intake.change_product(product, {CATALOGUE: True})
                decision.effects = [_effect(product, CATALOGUE, "", True)]
        if decision.kind != Decision.Kind.SAME:
            return
        decision.images_are_views = self._views
        if self._link:
            self._links += [SameAs(product_id=decision.product_id, other_id=pk) for pk in decision.candidates]
        if CARRY_OVER not in self._fill:
            return
        new, others = sides(decision)
        fill_new, fill_catalogue = self._fill
        # Both before either is changed.
        given = [(new, missing(new, others))] if fill_new == CARRY_OVER else []
        given += [(other, missing(other, [new])) for other in others] if fill_catalogue == CARRY_OVER else []
        decision.effects = [effect for product, facts in given for effect in give(product, facts)]

    def finish(self) -> None:
        """Store the links of all decisions at once."""
        SameAs.objects.bulk_create(self._links, ignore_conflicts=True)
        self._links = []

    def _take_back(self, effects: Sequence[dict[str, Any]]) -> None:
        products = Product.objects.in_bulk({effect["product"] for effect in effects})
        for product in products.values():
            changes: dict[str, Any] = {}
            for effect in (effect for effect in effects if effect["product"] == product.pk):
                current = value_of(product, effect)
                if current == effect["value"]:
                    _clear(product, changes, effect)
                elif current not in (None, "", False):
                    values = {"product": product, "name": effect["name"] or effect["field"], "value": current}
                    self.kept.append(_("%(product)s keeps %(name)s “%(value)s”, which was changed since.") % values)
            if changes:
                intake.change_product(product, changes)

    @cached_property
    def _views(self) -> bool:
        return preferences.value(VIEWS)

    @cached_property
    def _link(self) -> bool:
        return preferences.value(LINK)

    @cached_property
    def _joins(self) -> bool:
        return preferences.value(JOIN)

    @cached_property
    def _fill(self) -> tuple[str, str]:
        return preferences.value(FILL_NEW), preferences.value(FILL_CATALOGUE)


def field_name(name: str) -> str:
    """Return the name of a product's field for users."""
    columns: dict[str, Any] = {field.name: field for field in Product._meta.fields}
    return str(columns[name].verbose_name)


def missing(product: Product, others: Sequence[Product]) -> list[Fact]:
    """Return what a product lacks and others have. Facts on which the others disagree are left out."""
    facts = []
    for field in FIELDS:
        values = {getattr(other, field) for other in others} - {""}
        if not getattr(product, field) and len(values) == 1:
            facts.append(Fact(field, "", values.pop()))
    if isinstance(product.attributes, ShortenedAttributes):
        return facts
    readable = [other.attributes for other in others if not isinstance(other.attributes, ShortenedAttributes)]
    for name in dict.fromkeys(name for attributes in readable for name in attributes):
        values = {json.dumps(attributes[name], sort_keys=True) for attributes in readable if name in attributes}
        if name not in product.attributes and len(values) == 1:
            facts.append(Fact(ATTRIBUTES, name, json.loads(values.pop())))
    return facts


def give(product: Product, facts: Collection[Fact]) -> list[dict[str, Any]]:
    """Give a product these facts. Return the effects. Attributes that would be too many are left out."""
    attributes = {fact.name: fact.value for fact in facts if fact.field == ATTRIBUTES}
    if attributes:
        try:
            clean_attributes({**product.attributes, **attributes})
        except ValidationError:
            facts = [fact for fact in facts if fact.field != ATTRIBUTES]
    if not facts:
        return []
    changes: dict[str, Any] = {fact.field: fact.value for fact in facts if fact.field != ATTRIBUTES}
    if any(fact.field == ATTRIBUTES for fact in facts):
        changes[ATTRIBUTES] = {**product.attributes, **attributes}
    intake.change_product(product, changes)
    effects = [_effect(product, fact.field, fact.name, fact.value) for fact in facts]
    return [{**effect, "value": value_of(product, effect)} for effect in effects]  # as it is stored


def sides(decision: Decision) -> tuple[Product, list[Product]]:
    """Return the product of a decision and those that it is, as they are stored now."""
    products = Product.objects.in_bulk([decision.product_id, *decision.candidates])
    return products[decision.product_id], [products[pk] for pk in decision.candidates if pk in products]


def _effect(product: Product, field: str, name: str, value: Any) -> dict[str, Any]:
    return {"product": product.pk, "field": field, "name": name, "value": value}


def value_of(product: Product, effect: dict[str, Any]) -> Any:
    """Return the present value of what an effect changed."""
    name = effect["name"]
    return product.attributes.get(name) if effect["field"] == ATTRIBUTES else getattr(product, effect["field"])


def _clear(product: Product, changes: dict[str, Any], effect: dict[str, Any]) -> None:
    """Add to ``changes`` what makes a value missing again."""
    if effect["field"] == ATTRIBUTES:
        attributes = changes.setdefault(ATTRIBUTES, dict(product.attributes))
        attributes.pop(effect["name"], None)
    else:
        changes[effect["field"]] = False if effect["field"] == CATALOGUE else ""
