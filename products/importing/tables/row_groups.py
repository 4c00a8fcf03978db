"""Put rows together that belong together: variants, further images, parents and store views."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from django.utils.translation import gettext as _

from products.importing.tables.drafts import Draft
from products.importing.tables.identity import Key
from products.importing.tables.mapping import ColumnMapping

Cell = Callable[[Draft, str], str]  # the text of a row in a column

MAX_GROUP_ROWS = 5_000  # a product of Shopify has at most 2,048 variants and 250 images
MAX_REMEMBERED_CHARACTERS = 32 * 2**20  # of rows that later ones refer to
MAX_REMEMBERED_KEYS = 100_000
_DEFAULT_VIEWS = ("", "admin", "all")


def grouped(drafts: Iterator[Draft], mapping: ColumnMapping, cell: Cell) -> Iterator[Draft]:
    """Yield the drafts, completed as the tool that wrote them means it."""
    rules = mapping.preset.rows if mapping.preset is not None else {}
    kinds = {"group": _by_group, "parent": _by_parent, "views": _by_view}
    group = kinds.get(rules.get("kind", ""))
    return group(drafts, cell, rules) if group is not None else drafts


def _by_group(drafts: Iterator[Draft], cell: Cell, rules: dict[str, Any]) -> Iterator[Draft]:
    """Rows with the same handle follow each other. Only the first has the product's texts."""

    def handle_of(draft: Draft) -> str:
        return next(filter(None, (cell(draft, column) for column in rules["by"])), "")

    for handle, rows in groupby(drafts, handle_of):
        group: list[Draft] = []
        size = 0
        for draft in rows:
            group.append(draft)
            size += sum(map(len, draft.values))
            if len(group) >= MAX_GROUP_ROWS or size > MAX_REMEMBERED_CHARACTERS:
                yield from _complete_group(handle, group, cell, rules)
                group, size = [], 0
        yield from _complete_group(handle, group, cell, rules)


def _complete_group(handle: str, group: list[Draft], cell: Cell, rules: dict[str, Any]) -> list[Draft]:
    usable = [draft for draft in group if not draft.problem]
    if not usable or not handle:
        return group
    own = {id(draft): next(filter(None, (cell(draft, one) for one in rules["variant image"])), "") for draft in usable}
    variants = [draft for draft in usable if draft.key.text or draft.key.problem]
    if not variants:
        usable[0].key = Key(handle)
        variants = usable[:1]
    lead = variants[0]
    source = next((draft for draft in usable if draft.texts.get("name")), lead)
    for draft in usable:
        images = [image for image in draft.images if image != own[id(draft)] or len(draft.images) == 1]
        draft.images = images if draft is not lead else draft.images
    elsewhere = {own[id(draft)]: draft for draft in reversed(variants) if own[id(draft)] and draft is not lead}
    main = next((image for draft in usable for image in draft.images), "")
    of_lead = list(lead.images)
    for draft in variants[1:]:
        of_lead += [image for image in draft.images if image not in elsewhere]
        draft.images = [own[id(draft)] or main] if own[id(draft)] or main else []
        draft.read_options(source)
        draft.inherit(source)
    if lead is not source:
        lead.read_options(source)
        lead.inherit(source)
    mine = own[id(lead)]
    lead.images = [image for image in of_lead if image == mine or image not in elsewhere or len(of_lead) == 1]
    for draft in usable:
        if draft in variants:
            continue
        has_option = any(cell(draft, column) for column in rules["marks"])
        if has_option and lead.key.text != handle:
            draft.problem = _("the variant has no SKU, and others of the product %s have one") % handle
            continue
        owner = next((elsewhere[image] for image in draft.images if image in elsewhere), lead)
        draft.reduce_to_images(owner.key)
        if not draft.images:
            draft.passed_over = _("The row has no image and no SKU of its own.")
    return group


def _by_parent(drafts: Iterator[Draft], cell: Cell, rules: dict[str, Any]) -> Iterator[Draft]:
    """Variations name their parent by its SKU or id, and say only what differs."""
    parents: OrderedDict[str, Draft] = OrderedDict()
    size = 0
    for draft in drafts:
        name = cell(draft, rules["parent"])
        parent = parents.get(name) if name else None
        if parent is not None and not draft.problem:
            if not draft.key.text and not draft.key.problem:
                # A variation without a SKU has that of its parent.
                draft.reduce_to_images(parent.key)
                if not draft.images:
                    draft.passed_over = _("The variation has no image and no SKU of its own.")
            else:
                draft.inherit(parent)
                draft.images = draft.images or parent.images[:1]
        elif not name and not draft.problem:
            for key in (draft.key.text, f"id:{cell(draft, rules['id'])}"):
                if key not in ("", "id:"):
                    parents[key] = draft
                    size += sum(map(len, draft.values))
            while size > MAX_REMEMBERED_CHARACTERS:
                _key, oldest = parents.popitem(last=False)
                size -= sum(map(len, oldest.values))
        yield draft


def _by_view(drafts: Iterator[Draft], cell: Cell, rules: dict[str, Any]) -> Iterator[Draft]:
    """Further rows of a product have its texts for another store view. The catalogue has those of the first."""
    seen: OrderedDict[str, None] = OrderedDict()
    for draft in drafts:
        view = cell(draft, rules["view"])
        key = draft.key.text
        if view.lower() not in _DEFAULT_VIEWS and key in seen and not draft.problem:
            draft.passed_over = _("The row has texts for the store view %s.") % view
        elif key:
            seen[key] = None
            seen.move_to_end(key)
            if len(seen) > MAX_REMEMBERED_KEYS:
                seen.popitem(last=False)
        yield draft
