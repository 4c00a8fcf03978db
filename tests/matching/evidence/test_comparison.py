"""Evidence: what speaks for and against two products being the same, in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from matching.evidence.comparison import compare
from matching.evidence.items import Direction, Evidence
from matching.evidence.model import shipped_model
from matching.evidence.records import parse_record
from matching.evidence.statistics import CatalogueStatistics

CATALOGUE = [{"name": f"Product number{number} of the catalogue", "brand": "Acme"} for number in range(40)]


def compared(left: dict[str, Any], right: dict[str, Any], *others: dict[str, Any]) -> dict[str, Evidence]:
    """Return the evidence about two products by kind, in a catalogue with the second one and others."""
    ours, theirs = parse_record(**left), parse_record(**right)
    catalogue = [theirs, *(parse_record(**other) for other in [*CATALOGUE, *others])]
    return {item.kind: item for item in compare(ours, theirs, CatalogueStatistics.of(catalogue))}


def said(left: dict[str, Any], right: dict[str, Any], kind: str, *others: dict[str, Any]) -> tuple[str, str]:
    item = compared(left, right, *others)[kind]
    return item.direction.value, item.text


@pytest.mark.parametrize(
    ("left", "right", "kind", "direction", "text"),
    [
        ({"gtin": "4006381333931"}, {"gtin": "04006381333931"}, "identifier", "for",
         "Both have the number 4006381333931."),
        ({"gtin": "4006381333931"}, {"gtin": "73513537"}, "identifier", "against",
         "Their numbers differ: 4006381333931 and 73513537."),
        ({"gtin": "0000000000000"}, {"gtin": "0000000000000"}, "identifier", "nothing",
         "A number says nothing. It has only zeros."),
        ({"gtin": "4006381333932"}, {"gtin": "4006381333931"}, "identifier", "nothing",
         "A number says nothing. The check digit of “4006381333932” is wrong."),
        ({"gtin": "2012345678903"}, {"gtin": "2098765432103"}, "identifier", "nothing",
         "Their numbers differ, but shops give such numbers themselves."),
        ({"gtin": "2012345678903"}, {"gtin": "2012345678903"}, "identifier", "for",
         "Both have the number 2012345678903, but shops give such numbers themselves."),
        ({"gtin": "4006381333931"}, {}, "identifier", "nothing", "Only one of the two has a GTIN, ISBN or ISSN."),
        ({"mpn": "AB-12 C"}, {"mpn": "ab12c"}, "part_number", "for", "Both have the part number ab12c."),
        ({"mpn": "AB-12C"}, {"name": "Lamp AB12C"}, "part_number", "for",
         "The part number ab12c of one is in the text of the other."),
        ({"mpn": "AB12", "brand": "A"}, {"mpn": "AB12", "brand": "B"}, "part_number", "for",
         "Both have the part number ab12, but their brands differ."),
        ({"name": "Sony LCS-CSL case"}, {"name": "lcscsl"}, "model", "for", "Both name the model lcscsl."),
        ({"name": "Sony KDL40"}, {"name": "Sony XBR55"}, "model", "against",
         "They name different models: kdl40 and xbr55."),
        ({"name": "Cola 500 ml"}, {"name": "Cola 1 l"}, "volume", "against", "One has 500 ml, the other 1 l."),
        ({"name": "Cola 0.5 l"}, {"name": "Cola 50 cl"}, "volume", "for", "Both have 500 ml."),
        ({"name": "Cola 0.5 l"}, {"name": "Cola"}, "volume", "nothing", "Only one of the two says 500 ml."),
        ({"name": "Stick 128 GB"}, {"name": "Stick 256 GB"}, "memory", "against", "One has 128 GB, the other 256 GB."),
        ({"name": "Cola 6-pack"}, {"name": "Cola"}, "pack", "against",
         "One is a pack of 6, the other does not say so."),
        ({"name": "Cola 6er Pack"}, {"name": "Cola pack of 4"}, "pack", "against", "They are packs of 6 and of 4."),
        ({"name": "Hemd rot"}, {"name": "chemise rouge"}, "colour", "for", "Both are red."),
        ({"name": "Hemd rot"}, {"name": "chemise bleue"}, "colour", "against", "Their colours differ: red and blue."),
        ({"name": "Hemd Größe L"}, {"name": "Shirt size M"}, "size", "against", "Their sizes differ: l and m."),
        ({"name": "Office 2007"}, {"name": "Office 2010"}, "number", "against",
         "Their names have different numbers: 2007 and 2010."),
        ({"brand": "HP"}, {"brand": "HP Inc"}, "brand", "for", "Both are of the brand hp."),
        ({"brand": "Sony"}, {"brand": "LG"}, "brand", "against", "Their brands differ: sony and lg."),
        ({"price": 10, "currency": "eur"}, {"price": "9.5", "currency": "EUR"}, "price", "for",
         "Their prices are 10.00 EUR and 9.50 EUR."),
        ({"price": 10, "currency": "USD"}, {"price": 10, "currency": "EUR"}, "price", "nothing",
         "Their prices are in different currencies."),
        ({"price": 10}, {"price": 10, "currency": "EUR"}, "price", "nothing",
         "Only one of the two prices has a currency."),
        ({"price": 10}, {}, "price", "nothing", "Only one of the two has a price."),
        ({"attributes": {"Form": "round", "Use": "day"}}, {"attributes": {"form": "Round", "Use": "night"}},
         "attributes", "nothing", "They agree in form and differ in use."),
    ],
)  # fmt: skip
def test_evidence_says_in_a_sentence_what_speaks_for_or_against(left, right, kind, direction, text):
    assert said(left, right, kind) == (direction, text)
    if kind not in ("part_number", "pack", "volume", "colour", "brand", "memory", "model", "size"):
        assert said(right, left, kind)[0] == direction


def test_nothing_is_said_about_what_neither_product_has():
    assert compared({}, {}) == {}
    assert compared({"name": "Milk"}, {"name": "Bread"}).keys() == {"name", "letters", "words", "missing_word"}


def test_unknown_facts_weigh_nothing():
    model = shipped_model()
    known = {"name": "Lamp", "gtin": "4006381333931", "price": 3, "brand": "Acme", "mpn": "AB12"}
    known["attributes"] = {"use": "day"}
    items = [item for item in compared(known, {"name": "Lamp"}).values() if item.direction is Direction.NOTHING]
    assert {item.kind for item in items} >= {"identifier", "price", "brand", "part_number", "attributes"}
    assert [model.weight(item) for item in items] == [0.0] * len(items)


def test_gtin_that_many_products_share_says_little():
    same = {"gtin": "4006381333931"}
    alone = compared(same, same)["identifier"]
    shared = compared(same, same, *[same] * 9)["identifier"]
    assert shared.text == "Both have the number 4006381333931, but so have 10 products of the catalogue."
    assert value_of(shared) < 0.1 < 1.0 == value_of(alone)


def value_of(item: Evidence) -> float:
    assert item.value is not None
    return item.value


def test_gtin_of_two_products_in_the_catalogue_still_counts():
    same = {"gtin": "4006381333931"}
    assert compared(same, same, same)["identifier"].value == 1.0


def test_brand_that_everybody_has_says_next_to_nothing():
    rare = compared({"brand": "Bolt"}, {"brand": "Bolt"})["brand"]
    everybody = compared({"brand": "Acme"}, {"brand": "Acme"})["brand"]
    assert value_of(everybody) < 0.05 < 0.9 < value_of(rare)


def test_attribute_with_one_value_everywhere_says_nothing():
    same = {"attributes": {"country": "DE"}}
    assert compared(same, same, *[same] * 30)["attributes"].direction is Direction.NOTHING


def test_statistics_of_a_category_with_one_product_promise_nothing():
    record = parse_record(name="Lamp", brand="Acme")
    items = compare(record, record, CatalogueStatistics.of([record]))
    assert shipped_model().probability(items) < 0.95


def test_statistics_of_an_empty_catalogue_are_used_without_an_error():
    record = parse_record(name="Lamp AB12", attributes={"a": "b"}, gtin="4006381333931")
    assert compare(record, record, CatalogueStatistics.of([]))


@pytest.mark.parametrize("name", ["x", "x" * 2000, "a b c " * 400, "ml kg GB", "6 x x 6"])
def test_odd_names_get_sentences(name):
    for item in compared({"name": name}, {"name": name}).values():
        assert item.text.endswith(".")
