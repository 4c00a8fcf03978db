"""Make a catalogue with identifiers, variants and three languages, and measure what evidence confirms by itself.

    python -m benchmarks.synthetic_catalogue [--seeds 11 12 13 14 15] [--products 2000] [--json PATH]

Each product has the fields that a shop would have, and another shop describes it again: in one of three languages,
with its own spelling of sizes and colours, another price, and the mistakes whose rates are arguments. A share of what
the other shop brings is not in the catalogue, and its variants may be.

People decide the first ``--decided`` arrivals, a random share of all. From these decisions the policy's own code finds
from which probability on it keeps the promise (``--promise``) with 95 % confidence, and decides the other arrivals by
itself: ``policy_precision`` and ``policy_coverage`` (of the known ones among them). ``precision`` and ``coverage`` are
those at the fixed probability ``--confirm``, over all arrivals.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stdnum import ean

from matching.evidence.comparison import compare
from matching.evidence.model import shipped_model
from matching.evidence.records import Record, parse_record
from matching.evidence.statistics import CatalogueStatistics
from matching.policy.promises import Thresholds, carried_from, propose

LANGUAGES = ("en", "de", "fr")
MAX_CANDIDATES = 20
PROMISE, CONFIDENCE = 0.98, 0.95  # the defaults of a policy


@dataclass(frozen=True)
class Rates:
    """How often a shop makes each mistake. ``left_out``: the share of arrivals that the catalogue does not have."""

    missing_gtin: float = 0.2
    mistyped_gtin: float = 0.02
    sibling_gtin: float = 0.002
    missing_size: float = 0.03
    missing_brand: float = 0.1
    dropped_word: float = 0.1
    left_out: float = 0.3


@dataclass(frozen=True)
class Kind:
    """A kind of product: its names, its category, the sizes that it is sold in, and what else varies."""

    names: tuple[str, str, str]
    categories: tuple[str, str, str]
    sizes: tuple[str, ...]
    varies: tuple[tuple[str, str, str], ...]
    has_part_number: bool = False


_COLOURS = (
    ("black", "schwarz", "noir"), ("white", "weiß", "blanc"), ("blue", "blau", "bleu"), ("red", "rot", "rouge"),
    ("silver", "silber", "argent"), ("green", "grün", "vert"),
)  # fmt: skip
_FLAVOURS = (
    ("strawberry", "Erdbeere", "fraise"), ("vanilla", "Vanille", "vanille"), ("lemon", "Zitrone", "citron"),
    ("cherry", "Kirsche", "cerise"), ("nature", "Natur", "nature"),
)  # fmt: skip
_SCENTS = (("lavender", "Lavendel", "lavande"), ("fresh", "Frische", "fraîcheur"), ("rose", "Rosen", "rose"))
_FOOD, _HOME = ("Food", "Lebensmittel", "Alimentation"), ("Household", "Haushalt", "Maison")
_TECH, _WEAR = ("Electronics", "Elektronik", "Électronique"), ("Clothing", "Kleidung", "Vêtements")
KINDS = (
    Kind(("Apple Juice", "Apfelsaft", "Jus de pomme"), _FOOD, ("330 ml", "1 l", "1.5 l", "6 x 330 ml"), ()),
    Kind(("Orange Lemonade", "Orangenlimonade", "Limonade orange"), _FOOD, ("500 ml", "1 l", "6 x 500 ml"), ()),
    Kind(("Yoghurt", "Joghurt", "Yaourt"), _FOOD, ("125 g", "500 g", "4 x 125 g"), _FLAVOURS),
    Kind(("Ground Coffee", "Röstkaffee gemahlen", "Café moulu"), _FOOD, ("250 g", "500 g", "1 kg"), ()),
    Kind(("Muesli", "Müsli", "Muesli"), _FOOD, ("375 g", "750 g"), _FLAVOURS),
    Kind(("Ice Cream", "Speiseeis", "Glace"), _FOOD, ("500 ml", "900 ml"), _FLAVOURS),
    Kind(("Detergent", "Waschmittel", "Lessive"), _HOME, ("750 ml", "1.5 l", "3 l"), _SCENTS),
    Kind(("Shower Gel", "Duschgel", "Gel douche"), _HOME, ("250 ml", "400 ml"), _SCENTS),
    Kind(("Candle", "Kerze", "Bougie"), _HOME, ("120 g", "300 g"), _SCENTS),
    Kind(("USB Stick", "USB-Stick", "Clé USB"), _TECH, ("64 GB", "128 GB", "256 GB"), _COLOURS[:2], True),
    Kind(("Smartphone", "Smartphone", "Smartphone"), _TECH, ("128 GB", "256 GB", "512 GB"), _COLOURS[:4], True),
    Kind(("Power Bank", "Powerbank", "Batterie externe"), _TECH, ("10000 mAh", "20000 mAh"), _COLOURS[:3], True),
    Kind(("Television", "Fernseher", "Téléviseur"), _TECH, ("43 inch", "55 inch", "65 inch"), (), True),
    Kind(("T-Shirt", "T-Shirt", "T-shirt"), _WEAR, ("Size S", "Size M", "Size L", "Size XL"), _COLOURS),
    Kind(("Socks", "Socken", "Chaussettes"), _WEAR, ("Pack of 3", "Pack of 6"), _COLOURS[:3]),
)
_SYLLABLES = (
    "ba", "be", "bo", "ca", "de", "do", "fa", "fi", "ga", "go", "ka", "ki", "la", "lo", "ma", "mi",
    "na", "no", "pa", "pe", "ra", "ri", "sa", "so", "ta", "ti", "va", "vi", "za", "zo",
)  # fmt: skip
_SIZE_WORD = {"en": "Size", "de": "Größe", "fr": "Taille"}
_PACK_WORDS = {"en": ("Pack of {}", "{}-pack"), "de": ("{}er Pack", "{} Stück"), "fr": ("Lot de {}", "{} pièces")}
_SPELLINGS: dict[str, Callable[[float], tuple[str, ...]]] = {
    "ml": lambda amount: (f"{amount:g} ml", f"{amount:g}ml", f"{amount / 10:g} cl", f"{amount / 1000:g} l"),
    "l": lambda amount: (f"{amount:g} l", f"{amount:g}L", f"{amount * 1000:g} ml", f"{amount:g} Liter"),
    "g": lambda amount: (f"{amount:g} g", f"{amount:g}g", f"{amount / 1000:g} kg"),
    "kg": lambda amount: (f"{amount:g} kg", f"{amount:g}kg", f"{amount * 1000:g} g"),
    "GB": lambda amount: (f"{amount:g} GB", f"{amount:g}GB", f"{amount:g}Gb"),
    "mAh": lambda amount: (f"{amount:g} mAh", f"{amount:g}mAh", f"{amount / 1000:g} Ah"),
    "inch": lambda amount: (f"{amount:g} inch", f'{amount:g}"', f"{amount * 2.54:.0f} cm"),
}


@dataclass(frozen=True)
class Product:
    """A product of the world, which shops describe."""

    number: int
    family: int
    kind: Kind
    brand: str
    line: str
    size: str
    variant: tuple[str, str, str] | None
    gtin: str
    mpn: str
    price: float


@dataclass(frozen=True)
class Answered:
    """What is said of an arrival: how likely its best candidate and "none" are, and which of them would be right."""

    likely: float
    none: float
    is_right: bool
    is_new: bool


def make_world(chance: random.Random, products: int) -> list[Product]:
    """Return products in families of variants that share brand and line."""
    brands = [_word(chance, 2) for _ in range(max(10, products // 40))]
    world: list[Product] = []
    for family in range(products):
        kind = chance.choice(KINDS)
        brand, line = chance.choice(brands), _word(chance, chance.choice((2, 3)))
        base_price = math.exp(chance.uniform(0.5, 5.5))
        stem = f"{brand[:2]}{line[:1]}".upper() + str(chance.randrange(100, 9999))
        choices = [(size, variant) for size in kind.sizes for variant in (kind.varies or (None,))]
        for size, variant in chance.sample(choices, min(len(choices), chance.choice((1, 2, 3, 4, 6)))):
            number = len(world)
            code = f"{stem}-{kind.sizes.index(size) + 1}{(variant[0][:2] if variant else '').upper()}"
            base = f"4{chance.randrange(10**10, 10**11)}"
            world.append(
                Product(
                    number, family, kind, brand, line, size, variant, base + ean.calc_check_digit(base),
                    code if kind.has_part_number else "",
                    round(base_price * (1 + 0.6 * kind.sizes.index(size)), 2),
                )
            )  # fmt: skip
        if len(world) >= products:
            return world[:products]
    return world


def describe(
    chance: random.Random, product: Product, rates: Rates, siblings: Sequence[Product], language: str
) -> dict[str, Any]:
    """Return the fields that a shop has for a product."""
    at = LANGUAGES.index(language)
    parts = [product.brand, product.line, product.kind.names[at]]
    if product.variant:
        parts.append(product.variant[at])
    if chance.random() >= rates.missing_size:
        parts.append(_spell_size(chance, product.size, language))
    if product.mpn and chance.random() < 0.5:
        parts.append(product.mpn if chance.random() < 0.5 else product.mpn.replace("-", ""))
    if chance.random() < rates.dropped_word:
        parts.pop(chance.choice((0, 2)))
    if chance.random() < 0.3:
        parts[0], parts[1] = parts[1], parts[0]
    return {
        "name": " ".join(parts),
        "brand": "" if chance.random() < rates.missing_brand else product.brand,
        "category": product.kind.categories[at],
        "gtin": _copy_gtin(chance, product, rates, siblings),
        "mpn": product.mpn if product.mpn and chance.random() < 0.6 else "",
        "price": round(product.price * math.exp(chance.gauss(0, 0.1)), 2) if chance.random() < 0.9 else None,
        "currency": "EUR",
    }


def run(
    seed: int, products: int, rates: Rates, confirm: float, promise: float = PROMISE, decided: float = 0.5
) -> dict[str, Any]:
    """Make one catalogue, ask for every arrival, and return the figures."""
    chance = random.Random(seed)
    world = make_world(chance, round(products / (1 - rates.left_out)))
    families: defaultdict[int, list[Product]] = defaultdict(list)
    for product in world:
        families[product.family].append(product)
    known = {product.number for product in world if chance.random() >= rates.left_out}

    def shop(product: Product) -> Record:
        siblings = [other for other in families[product.family] if other is not product]
        return parse_record(**describe(chance, product, rates, siblings, chance.choice(LANGUAGES)))

    catalogue = {number: shop(world[number]) for number in sorted(known)}
    arrivals = {product.number: shop(product) for product in world}
    statistics = CatalogueStatistics.of(catalogue.values())
    index = _Index(catalogue, statistics)
    model = shipped_model()
    confirmed = right = told_apart = with_siblings = decided_new = right_new = 0
    seconds = []
    answers: list[Answered] = []
    for number, arrival in arrivals.items():
        candidates = index.candidates(arrival)
        start = time.process_time()
        odds = {
            candidate: math.exp(min(model.log_odds(compare(arrival, catalogue[candidate], statistics)), 50.0))
            for candidate in candidates
        }
        if len(candidates) >= 10:
            seconds.append((time.process_time() - start) * 10 / len(candidates))
        total = 1 + sum(odds.values())
        best = max(odds, key=lambda candidate: odds[candidate], default=None)
        answers.append(
            Answered(odds[best] / total if best is not None else 0.0, 1 / total, best == number, number not in known)
        )
        if best is not None and odds[best] / total >= confirm:
            confirmed += 1
            right += best == number
        if 1 / total >= confirm:
            decided_new += 1
            right_new += number not in known
        rivals = [odds.get(other.number, 0.0) for other in families[world[number].family] if other.number in known]
        if number in known and len(rivals) > 1:
            with_siblings += 1
            own = odds.get(number, 0.0)
            told_apart += own > 0 and sum(odd >= own for odd in rivals) == 1
    return {
        "seed": seed,
        "products": len(catalogue),
        "arrivals": len(arrivals),
        "confirmed": confirmed,
        "precision": round(right / max(confirmed, 1), 4),
        "coverage": round(confirmed / max(len(known), 1), 4),
        "coverage_of_all_arrivals": round(confirmed / len(arrivals), 4),
        "variants_told_apart": round(told_apart / max(with_siblings, 1), 4),
        "with_variants": with_siblings,
        **_by_policy(random.Random(seed), answers, promise, decided),  # the world's own numbers stay as they are
        "called_new": decided_new,
        "precision_of_new": round(right_new / max(decided_new, 1), 4),
        "ms_for_10_candidates": round(1000 * sorted(seconds)[len(seconds) // 2], 2) if seconds else None,
    }


def _by_policy(chance: random.Random, answers: list[Answered], promise: float, share: float) -> dict[str, Any]:
    """Let people decide a share of the arrivals, and the policy the rest. Return how it did."""
    chance.shuffle(answers)
    decided, rest = answers[: round(share * len(answers))], answers[round(share * len(answers)) :]
    at = Thresholds(
        carried_from(promise, CONFIDENCE, [one.likely for one in decided], [one.is_right for one in decided]),
        carried_from(promise, CONFIDENCE, [one.none for one in decided], [one.is_new for one in decided]),
    )
    same: list[Answered] = []
    new: list[Answered] = []
    for one in rest:
        proposal = propose([one.likely], one.none, at)
        if proposal is not None:
            (same if proposal.kind == "same" else new).append(one)
    known = sum(not one.is_new for one in rest)
    return {
        "policy_from": at.same_from,
        "policy_confirmed": len(same),
        "policy_precision": round(sum(one.is_right for one in same) / len(same), 4) if same else None,
        "policy_coverage": round(len(same) / max(known, 1), 4),
        "policy_called_new": len(new),
        "policy_precision_of_new": round(sum(one.is_new for one in new) / len(new), 4) if new else None,
    }


class _Index:
    """Find the products that share an identifier, or the most and rarest words, with an arrival."""

    def __init__(self, catalogue: dict[int, Record], statistics: CatalogueStatistics) -> None:
        self._statistics = statistics
        self._owners: defaultdict[str, list[int]] = defaultdict(list)
        for number, record in catalogue.items():
            for key in _keys(record):
                self._owners[key].append(number)

    def candidates(self, arrival: Record) -> list[int]:
        scores: defaultdict[int, float] = defaultdict(float)
        for key in _keys(arrival):
            rarity = 10.0 if key.isdigit() and len(key) == 14 else self._statistics.rarity(key) ** 4
            for number in self._owners.get(key, ()):
                scores[number] += rarity
        return sorted(scores, key=lambda number: (-scores[number], number))[:MAX_CANDIDATES]


def _keys(record: Record) -> Iterator[str]:
    yield from record.words
    yield from (identifier.number for identifier in record.identifiers if identifier.is_telling)


def _word(chance: random.Random, syllables: int) -> str:
    return "".join(chance.choice(_SYLLABLES) for _ in range(syllables)).capitalize() + chance.choice(
        ("", "n", "x", "l")
    )


def _spell_size(chance: random.Random, size: str, language: str) -> str:
    if size.startswith("Size "):
        return f"{_SIZE_WORD[language]} {size.removeprefix('Size ')}"
    if size.startswith("Pack of "):
        return chance.choice(_PACK_WORDS[language]).format(size.removeprefix("Pack of "))
    times, _, rest = size.rpartition(" x ")
    amount, unit = rest.split()
    spelled = chance.choice(_SPELLINGS[unit](float(amount)))
    if language != "en":
        spelled = spelled.replace(".", ",")
    return f"{times}{chance.choice((' x ', 'x'))}{spelled}" if times else spelled


def _copy_gtin(chance: random.Random, product: Product, rates: Rates, siblings: Sequence[Product]) -> str:
    draw = chance.random()
    if draw < rates.missing_gtin:
        return ""
    if siblings and draw < rates.missing_gtin + rates.sibling_gtin:
        return chance.choice(siblings).gtin
    digits = list(product.gtin)
    if chance.random() < rates.mistyped_gtin:
        place = chance.randrange(len(digits) - 1)
        if chance.random() < 0.5:
            digits[place] = str((int(digits[place]) + chance.randrange(1, 10)) % 10)
        else:
            digits[place], digits[place + 1] = digits[place + 1], digits[place]
    return "".join(digits)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--products", type=int, default=2000, help="of the catalogue, more or less")
    parser.add_argument("--confirm", type=float, default=0.98)
    parser.add_argument("--promise", type=float, default=PROMISE, help="of the policy")
    parser.add_argument("--decided", type=float, default=0.5, help="share of the arrivals that people decide")
    parser.add_argument("--json", type=Path, metavar="PATH")
    for name, rate in vars(Rates()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=rate)
    options = parser.parse_args()
    rates = Rates(**{name: getattr(options, name) for name in vars(Rates())})
    results = []
    for seed in options.seeds:
        results.append(run(seed, options.products, rates, options.confirm, options.promise, options.decided))
        print(json.dumps(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"rates": vars(rates), "results": results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
