"""Compare two records and list what speaks for and against their being the same product."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile

from rapidfuzz.fuzz import token_set_ratio

from matching.evidence.identifiers import Identifier, Standing
from matching.evidence.items import Evidence, gettext_noop
from matching.evidence.quantities import Quantity
from matching.evidence.records import Record
from matching.evidence.statistics import CatalogueStatistics

# An identifier that each shop gives to what it likes says this much, if it is equal.
LOCAL_IDENTIFIER = 0.1
MAX_SHOWN = 3

Comparison = Callable[[Record, Record, CatalogueStatistics], Evidence | None]


def compare(left: Record, right: Record, statistics: CatalogueStatistics) -> list[Evidence]:
    """Return the evidence about two products, at most one item of each kind.

    What neither of the two has is left out. What only one has is an item that says nothing.
    """
    found = [evidence for function in _COMPARISONS if (evidence := function(left, right, statistics))]
    part_number, model = _part_number(left, right, statistics), _model(left, right, statistics)
    if part_number:
        found.append(part_number)
    # A part number is a model number too. The same fact counts once.
    if model and not (part_number and part_number.value and (part_number.value > 0 or (model.value or 0.0) < 0)):
        found.append(model)
    found += _compare_quantities(left, right)
    return found


def _identifier(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    kind = "identifier"
    if not left.identifiers and not right.identifiers:
        return None
    if not left.identifiers or not right.identifiers:
        return Evidence(kind, None, gettext_noop("Only one of the two has a GTIN, ISBN or ISSN."))
    ours, theirs = _valid(left), _valid(right)
    if not ours or not theirs:
        invalid = next(one for one in (*left.identifiers, *right.identifiers) if one.standing is Standing.INVALID)
        return Evidence(kind, None, gettext_noop("A number says nothing. %(reason)s"), {"reason": invalid.reason})
    same = [identifier for identifier in ours if identifier in theirs]
    if same:
        best = max(same, key=lambda identifier: (identifier.is_telling, -statistics.owners(identifier.number)))
        owners = statistics.owners(best.number)
        facts = {"number": best.number.lstrip("0"), "owners": owners}
        if best.standing is Standing.LOCAL:
            return Evidence(
                kind,
                LOCAL_IDENTIFIER,
                gettext_noop("Both have the number %(number)s, but shops give such numbers themselves."),
                facts,
            )
        if owners > 2:
            return Evidence(
                kind,
                min(1.0, 2 / owners) ** 2,
                gettext_noop("Both have the number %(number)s, but so have %(owners)d products of the catalogue."),
                facts,
            )
        if best.standing is Standing.SERIES:
            return Evidence(
                kind,
                0.5,
                gettext_noop("Both have the ISSN number %(number)s, which all issues of a series share."),
                facts,
            )
        return Evidence(kind, 1.0, gettext_noop("Both have the number %(number)s."), facts)
    if not any(a.is_telling and b.is_telling for a in ours for b in theirs):
        return Evidence(kind, None, gettext_noop("Their numbers differ, but shops give such numbers themselves."))
    return Evidence(
        kind,
        -1.0,
        gettext_noop("Their numbers differ: %(left)s and %(right)s."),
        {"left": _shown(ours), "right": _shown(theirs)},
    )


def _valid(record: Record) -> list[Identifier]:
    return [identifier for identifier in record.identifiers if identifier.standing is not Standing.INVALID]


def _part_number(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    kind = "part_number"
    if not left.mpn and not right.mpn:
        return None
    if left.mpn == right.mpn:
        owners = statistics.owners(left.mpn)
        facts = {"number": left.mpn, "owners": owners}
        if left.brand and right.brand and not _same_brand(left, right):
            return Evidence(
                kind, 0.3, gettext_noop("Both have the part number %(number)s, but their brands differ."), facts
            )
        if owners > 2:
            return Evidence(
                kind,
                min(1.0, 2 / owners),
                gettext_noop("Both have the part number %(number)s, but so have %(owners)d products of the catalogue."),
                facts,
            )
        return Evidence(kind, 1.0, gettext_noop("Both have the part number %(number)s."), facts)
    for one, other in ((left, right), (right, left)):
        if len(one.mpn) >= 4 and one.mpn in other.letters:
            return Evidence(
                kind,
                0.8,
                gettext_noop("The part number %(number)s of one is in the text of the other."),
                {"number": one.mpn},
            )
    if not left.mpn or not right.mpn:
        return Evidence(kind, None, gettext_noop("Only one of the two has a part number."))
    facts = {"left": left.mpn, "right": right.mpn}
    if min(len(left.mpn), len(right.mpn)) >= 4 and (left.mpn in right.mpn or right.mpn in left.mpn):
        return Evidence(kind, 0.5, gettext_noop("One part number is inside the other: %(left)s and %(right)s."), facts)
    return Evidence(kind, -1.0, gettext_noop("Their part numbers differ: %(left)s and %(right)s."), facts)


def _model(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    kind = "model"
    if not (left.models or right.models or left.compounds or right.compounds):
        return None
    words = statistics.words
    best, model = 0.0, ""
    for one, other in ((left, right), (right, left)):
        for candidate in one.models:
            rarity = words.get(candidate, 1.0)
            if rarity > best and (candidate in other.models or (len(candidate) >= 4 and candidate in other.letters)):
                best, model = rarity, candidate
        for candidate in one.compounds & other.words:
            if (rarity := words.get(candidate, 1.0)) > best:
                best, model = rarity, candidate
    if best:
        return Evidence(kind, best, gettext_noop("Both name the model %(model)s."), {"model": model})
    if not left.models or not right.models:
        return (
            Evidence(kind, None, gettext_noop("Only one of the two names a model."))
            if left.models != right.models
            else None
        )
    conflict = min(max(words.get(model, 1.0) for model in record.models) for record in (left, right))
    # Models that begin alike may be one product in two spellings, or two variants.
    conflict *= 1 - max(_common_start(one, other) for one in left.models for other in right.models)
    return Evidence(
        kind,
        -conflict,
        gettext_noop("They name different models: %(left)s and %(right)s."),
        {"left": _shown(left.models), "right": _shown(right.models)},
    )


def _name(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.name or not right.name:
        return (
            Evidence("name", None, gettext_noop("Only one of the two has a name.")) if left.name != right.name else None
        )
    similarity = token_set_ratio(left.name, right.name) / 100
    return Evidence(
        "name",
        _centred(similarity, 0.6),
        gettext_noop("Their names are %(percent)d %% alike."),
        {"percent": round(similarity * 100)},
    )


def _letters(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.grams or not right.grams:
        return None
    similarity = _cosine(left.grams, right.grams, statistics.grams)
    return Evidence(
        "letters",
        _centred(similarity, 0.35),
        gettext_noop("The letters of their names are %(percent)d %% alike, and rare ones count more."),
        {"percent": round(similarity * 100)},
    )


def _words(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.words or not right.words:
        return None
    rarities = statistics.words
    similarity = _cosine(left.words, right.words, rarities)
    return Evidence(
        "words",
        _centred(similarity, 0.35),
        gettext_noop("Their names share %(percent)d %% of their words, and rare ones count more."),
        {"percent": round(similarity * 100)},
    )


def _rare_word(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    shared = left.words & right.words
    if not shared:
        return None
    rarity, word = max([(statistics.words.get(word, 1.0), word) for word in shared])
    return Evidence("rare_word", rarity, gettext_noop("Both names have the word “%(word)s”."), {"word": word})


def _missing_word(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.words or not right.words:
        return None
    rarities = statistics.words
    least = 2.0
    word = ""
    for one, other in ((left, right), (right, left)):
        missing = [
            (rarities.get(word, 1.0), word)
            for word in one.words - other.words - other.description
            if word not in other.letters
        ]
        rarity, missed = max(missing, default=(0.0, ""))
        if rarity < least:
            least, word = rarity, missed
    if not word:
        return Evidence("missing_word", 0.0, gettext_noop("Every word of one name is in the text of the other."))
    return Evidence(
        "missing_word",
        -least,
        gettext_noop("Each name has words that the other product lacks, such as “%(word)s”."),
        {"word": word},
    )


def _description(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.description and not right.description:
        return None
    if not left.description or not right.description:
        return Evidence("description", None, gettext_noop("Only one of the two has a description."))
    similarity = _cosine(left.description, right.description, statistics.words)
    return Evidence(
        "description",
        _centred(similarity, 0.15),
        gettext_noop("Their descriptions share %(percent)d %% of their words, and rare ones count more."),
        {"percent": round(similarity * 100)},
    )


def _numbers(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.numbers or not right.numbers:
        return None
    shared = left.numbers & right.numbers
    overlap = len(shared) / min(len(left.numbers), len(right.numbers))
    facts = {"left": _shown(left.numbers), "right": _shown(right.numbers)}
    if shared:
        facts["shared"] = _shown(shared)
        return Evidence(
            "number", _centred(overlap, 0.34), gettext_noop("Both names have the number %(shared)s."), facts
        )
    if any(ours.equals(theirs) for ours in left.quantities for theirs in right.quantities):
        # "0.5 l" and "500 ml" have different numbers, but say the same.
        return None
    return Evidence("number", -1.0, gettext_noop("Their names have different numbers: %(left)s and %(right)s."), facts)


def _packs(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.packs and not right.packs:
        return None
    facts = {"left": _shown(left.packs), "right": _shown(right.packs)}
    if left.packs and right.packs:
        if left.packs & right.packs:
            return Evidence("pack", 1.0, gettext_noop("Both are packs of %(left)s."), facts)
        return Evidence("pack", -1.0, gettext_noop("They are packs of %(left)s and of %(right)s."), facts)
    known = left.packs or right.packs
    if max(known) == 1:
        return Evidence("pack", None, gettext_noop("Only one of the two says how many a pack has."))
    # Most single products do not say that they are single.
    return Evidence(
        "pack", -0.5, gettext_noop("One is a pack of %(count)s, the other does not say so."), {"count": _shown(known)}
    )


def _sizes(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    return _sets("size", left.sizes, right.sizes, gettext_noop("Both have the size %(shared)s."),
                 gettext_noop("Their sizes differ: %(left)s and %(right)s."),
                 gettext_noop("Only one of the two names a size."))  # fmt: skip


def _colours(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    return _sets("colour", left.colours, right.colours, gettext_noop("Both are %(shared)s."),
                 gettext_noop("Their colours differ: %(left)s and %(right)s."),
                 gettext_noop("Only one of the two names a colour."))  # fmt: skip


def _brand(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.brand and not right.brand:
        return None
    facts = {"left": left.brand, "right": right.brand}
    if left.brand and right.brand:
        if _same_brand(left, right):
            share = max(statistics.owners(left.brand), statistics.owners(right.brand)) / max(statistics.products, 2)
            return Evidence("brand", max(0.0, 1 - share), gettext_noop("Both are of the brand %(left)s."), facts)
        return Evidence("brand", -1.0, gettext_noop("Their brands differ: %(left)s and %(right)s."), facts)
    brand, other = (left.brand, right) if left.brand else (right.brand, left)
    if brand in other.name:
        share = statistics.owners(brand) / max(statistics.products, 2)
        return Evidence(
            "brand",
            max(0.0, 0.5 - share),
            gettext_noop("The name of one has the brand %(brand)s of the other."),
            {"brand": brand},
        )
    return Evidence("brand", None, gettext_noop("Only one of the two has a brand."))


def _category(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if not left.category or not right.category:
        return None
    similarity = _cosine(left.category, right.category, {})
    return Evidence(
        "category",
        _centred(similarity, 0.2),
        gettext_noop("The words of their categories are %(percent)d %% alike."),
        {"percent": round(similarity * 100)},
    )


def _attributes(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    both = left.attributes.keys() & right.attributes.keys()
    if not both:
        if left.attributes or right.attributes:
            return Evidence("attributes", None, gettext_noop("They have no attribute in common."))
        return None
    total, weights = 0.0, 0.0
    equal: list[tuple[float, str]] = []
    different: list[tuple[float, str]] = []
    for name in sorted(both):
        telling = 1 - statistics.coincidence.get(name, 0.5)
        value = left.attributes[name]
        weights += telling
        if value == right.attributes[name]:
            agreement = telling * (1 - statistics.values.get((name, value), 0.0))
            total += agreement
            equal.append((agreement, name))
        else:
            total -= telling
            different.append((telling, name))
    balance = total / max(weights, 1.0)
    facts = {"equal": _names(equal), "different": _names(different)}
    if not different:
        return Evidence("attributes", balance, gettext_noop("They agree in %(equal)s."), facts)
    if not equal:
        return Evidence("attributes", balance, gettext_noop("They differ in %(different)s."), facts)
    return Evidence("attributes", balance, gettext_noop("They agree in %(equal)s and differ in %(different)s."), facts)


def _price(left: Record, right: Record, statistics: CatalogueStatistics) -> Evidence | None:
    if left.price is None and right.price is None:
        return None
    if left.price is None or right.price is None:
        return Evidence("price", None, gettext_noop("Only one of the two has a price."))
    if bool(left.currency) != bool(right.currency):
        return Evidence("price", None, gettext_noop("Only one of the two prices has a currency."))
    if left.currency != right.currency:
        return Evidence("price", None, gettext_noop("Their prices are in different currencies."))
    ratio = min(left.price, right.price) / max(left.price, right.price)
    unit = f" {left.currency}" if left.currency else ""
    facts = {"left": f"{left.price:.2f}{unit}", "right": f"{right.price:.2f}{unit}"}
    return Evidence("price", _centred(ratio, 0.6), gettext_noop("Their prices are %(left)s and %(right)s."), facts)


def _compare_quantities(left: Record, right: Record) -> Iterable[Evidence]:
    """Yield one item for each dimension, such as volume, that both or one of the two name."""
    if not (left.quantities or right.quantities):
        return
    ours, theirs = _by_dimension(left.quantities), _by_dimension(right.quantities)
    for dimension in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(dimension, ()), theirs.get(dimension, ())
        facts = {"left": _shown(mine), "right": _shown(other)}
        if mine and other:
            same = [quantity for quantity in mine if any(map(quantity.equals, other))]
            if same:
                value = len(same) / max(len(mine), len(other))
                facts["shared"] = _shown(same)
                yield Evidence(dimension, value, gettext_noop("Both have %(shared)s."), facts)
            else:
                yield Evidence(dimension, -1.0, gettext_noop("One has %(left)s, the other %(right)s."), facts)
            continue
        named, described = (mine, right.described) if mine else (other, left.described)
        facts["shared"] = _shown(named)
        if any(quantity.equals(candidate) for quantity in named for candidate in described):
            yield Evidence(dimension, 0.5, gettext_noop("%(shared)s is in the description of the other."), facts)
        else:
            yield Evidence(dimension, None, gettext_noop("Only one of the two says %(shared)s."), facts)


def _sets(
    kind: str, left: frozenset[str], right: frozenset[str], same: str, differ: str, alone: str
) -> Evidence | None:
    if not left and not right:
        return None
    if not left or not right:
        return Evidence(kind, None, alone)
    shared = left & right
    facts = {"left": _shown(left), "right": _shown(right), "shared": _shown(shared)}
    if shared:
        return Evidence(kind, len(shared) / max(len(left), len(right)), same, facts)
    return Evidence(kind, -1.0, differ, facts)


def _same_brand(left: Record, right: Record) -> bool:
    """Return whether one brand is the beginning of the other: "HP" and "HP Inc"."""
    ours, theirs = left.brand.split(), right.brand.split()
    length = min(len(ours), len(theirs))
    return ours[:length] == theirs[:length]


def _common_start(one: str, other: str) -> float:
    """Return which share of the longer of two words both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _same in takewhile(lambda pair: pair[0] == pair[1], pairs)) / max(len(one), len(other))


def _cosine(left: frozenset[str], right: frozenset[str], rarities: Mapping[str, float]) -> float:
    """Return the cosine of two sets whose members are weighted by their rarity."""
    shared = left & right
    if not shared:
        return 0.0
    get = rarities.get
    ours, theirs, both = (sum([get(member, 1.0) ** 2 for member in members]) for members in (left, right, shared))
    norm = math.sqrt(ours * theirs)
    return both / norm if norm else 0.0


def _centred(similarity: float, neutral: float) -> float:
    """Return a similarity of 0 to 1 as -1 to 1, with 0 for the similarity that says nothing."""
    if similarity < neutral:
        return (similarity - neutral) / neutral
    return (similarity - neutral) / (1 - neutral)


def _by_dimension(quantities: Iterable[Quantity]) -> dict[str, list[Quantity]]:
    found: dict[str, list[Quantity]] = {}
    for quantity in quantities:
        found.setdefault(quantity.dimension, []).append(quantity)
    return found


def _names(weighted: list[tuple[float, str]]) -> str:
    return ", ".join(name for _weight, name in sorted(weighted, reverse=True)[:MAX_SHOWN])


def _shown(values: Iterable[object]) -> str:
    """Return a few values for people, in a fixed order."""
    shown = [value.number.lstrip("0") if isinstance(value, Identifier) else str(value) for value in values]
    return ", ".join(sorted(shown)[:MAX_SHOWN])


_COMPARISONS: tuple[Comparison, ...] = (
    _identifier, _name, _letters, _words, _rare_word, _missing_word, _description,
    _numbers, _packs, _sizes, _colours, _brand, _category, _attributes, _price,
)  # fmt: skip
