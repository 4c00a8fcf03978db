"""Count how often words, identifiers and values occur in a catalogue: what is rare tells more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from matching.evidence.records import Record


@dataclass(frozen=True, slots=True)
class CatalogueStatistics:
    """How rare the words, n-grams, identifiers, brands and attributes of a catalogue are.

    Rarities lie between 0 (every product has it) and 1 (no product has it). ``shared`` counts the products of each
    identifier, part number or brand that several products have. ``coincidence`` is, for each attribute, how likely
    two products have the same value by chance.
    """

    products: int
    words: dict[str, float]
    grams: dict[str, float]
    shared: dict[str, int]
    values: dict[tuple[str, str], float]
    coincidence: dict[str, float]

    @classmethod
    def of(cls, records: Iterable[Record]) -> CatalogueStatistics:
        """Count a catalogue. Takes about 20 µs a record."""
        products = 0
        words: Counter[str] = Counter()
        grams: Counter[str] = Counter()
        keys: Counter[str] = Counter()
        values: Counter[tuple[str, str]] = Counter()
        filled: Counter[str] = Counter()
        for record in records:
            products += 1
            words.update(record.words | record.description)
            grams.update(record.grams)
            keys.update({identifier.number for identifier in record.identifiers} | {record.mpn, record.brand} - {""})
            values.update(record.attributes.items())
            filled.update(record.attributes.keys())
        chance: Counter[str] = Counter()
        for (name, _value), count in values.items():
            chance[name] += count * count
        return cls(
            products=products,
            words=_rarities(words, products),
            grams=_rarities(grams, products),
            shared={key: count for key, count in keys.items() if count > 1},
            values={value: count / filled[value[0]] for value, count in values.items() if count > 1},
            coincidence={name: chance[name] / filled[name] ** 2 for name in filled},
        )

    def rarity(self, word: str) -> float:
        """Return the rarity of a word, 1 for one that the catalogue lacks."""
        return self.words.get(word, 1.0)

    def owners(self, key: str) -> int:
        """Return how many products have an identifier, part number or brand. At least 1."""
        return self.shared.get(key, 1)


def _rarities(counts: Counter[str], products: int) -> dict[str, float]:
    """Return inverse document frequencies as a share of the largest that this catalogue can have."""
    if not products:
        return {}
    largest = math.log(products + 2)
    of_count = {count: max(0.0, math.log((products + 2) / (count + 1)) / largest) for count in set(counts.values())}
    return {word: of_count[count] for word, count in counts.items()}
