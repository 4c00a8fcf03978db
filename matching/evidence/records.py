"""Parse what is known about a product into a record, once, so that comparing two is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from matching.evidence.colours import colours
from matching.evidence.identifiers import Identifier, read_identifier
from matching.evidence.quantities import Quantity, pack_counts, quantities, sizes
from matching.evidence.words import compact, compounds, grams, model_numbers, normalise, numbers, words

# Longer texts say nothing more about which product it is, and would only take time.
MAX_NAME, MAX_DESCRIPTION, MAX_ATTRIBUTES, MAX_VALUE = 2000, 4000, 100, 200


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a product, parsed. It is pickled and cached as it is.

    All texts are normalised. An empty set or text is unknown, and so is None. ``models`` and ``numbers`` are those of
    the name. ``quantities`` and ``packs`` come from name and attributes, those of the description are in
    ``described``. ``letters`` has the letters and digits of all texts, where model numbers are looked for.
    """

    name: str
    words: frozenset[str]
    grams: frozenset[str]
    models: frozenset[str]
    compounds: frozenset[str]
    numbers: frozenset[str]
    description: frozenset[str]
    letters: str
    brand: str
    category: frozenset[str]
    attributes: Mapping[str, str]
    quantities: frozenset[Quantity]
    described: frozenset[Quantity]
    packs: frozenset[int]
    sizes: frozenset[str]
    colours: frozenset[str]
    identifiers: tuple[Identifier, ...]
    mpn: str
    price: float | None
    currency: str


def parse_record(
    *,
    name: str = "",
    brand: str = "",
    description: str = "",
    category: str = "",
    attributes: Mapping[str, Any] | None = None,
    gtin: str = "",
    mpn: str = "",
    price: Decimal | float | str | None = None,
    currency: str = "",
    barcodes: tuple[str, ...] = (),
) -> Record:
    """Return the record of a product. ``barcodes``: numbers that were read from its images.

    Takes about 0.1 ms. Never raises an error for what a text says: what cannot be read is unknown.
    """
    name = normalise(name[:MAX_NAME])
    brand = normalise(brand[:MAX_VALUE])
    description = normalise(description[:MAX_DESCRIPTION])
    kept = _attributes(attributes or {})
    tokens = words(name)
    described_tokens = words(description)
    values = " ; ".join(f"{key} {value}" for key, value in kept.items())
    facts = f"{name} ; {' ; '.join(kept.values())}" if kept else name
    mpn = compact(normalise(mpn[:MAX_VALUE]))
    named_colours = colours(tokens) or colours(words(values)) or colours(described_tokens)
    return Record(
        name=" ".join(tokens),
        words=frozenset(tokens),
        grams=grams(tokens) if tokens else frozenset(),
        models=model_numbers(name),
        compounds=compounds(name),
        numbers=numbers(name),
        description=frozenset(described_tokens),
        letters=f"{''.join(tokens)} {mpn} {''.join(described_tokens)} {compact(values)}",
        brand=" ".join(words(brand)),
        category=frozenset(words(normalise(category[:MAX_VALUE]))),
        attributes=kept,
        quantities=quantities(facts),
        described=quantities(description),
        packs=pack_counts(facts),
        sizes=sizes(facts),
        colours=named_colours,
        identifiers=_identifiers(gtin, *barcodes),
        mpn=mpn,
        price=_price(price),
        currency=normalise(currency).upper(),
    )


def _identifiers(*texts: str) -> tuple[Identifier, ...]:
    found = [read_identifier(text[:MAX_VALUE]) for text in texts]
    return tuple(dict.fromkeys(identifier for identifier in found if identifier))


def _attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    kept = {}
    for key, value in list(attributes.items())[:MAX_ATTRIBUTES]:
        if value is not None and (text := normalise(str(value)[:MAX_VALUE])):
            kept[normalise(str(key)[:MAX_VALUE])] = text
    return kept


def _price(price: Decimal | float | str | None) -> float | None:
    """Return a price above zero, or None: free products and unreadable prices are unknown prices."""
    try:
        amount = Decimal(str(price).strip()) if price not in (None, "") else Decimal(0)
    except InvalidOperation:
        return None
    return float(amount) if amount.is_finite() and amount > 0 else None
