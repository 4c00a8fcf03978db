"""Records: what is parsed from the texts, numbers and identifiers of a product."""

from __future__ import annotations

import pickle

import pytest

from matching.evidence.identifiers import Standing, read_identifier
from matching.evidence.records import parse_record


@pytest.mark.parametrize(
    ("text", "number", "standing"),
    [
        ("4006381333931", "04006381333931", Standing.GLOBAL),
        ("0036000291452", "00036000291452", Standing.GLOBAL),
        ("036000291452", "00036000291452", Standing.GLOBAL),
        ("73513537", "00000073513537", Standing.GLOBAL),
        ("98412345678908", "98412345678908", Standing.LOCAL),
        ("0-306-40615-2", "09780306406157", Standing.GLOBAL),
        ("978-0-306-40615-7", "09780306406157", Standing.GLOBAL),
        ("0378-5955", "09770378595002", Standing.SERIES),
        ("2012345678903", "02012345678903", Standing.LOCAL),
        ("23456785", "00000023456785", Standing.LOCAL),
    ],
)
def test_identifier_gets_fourteen_digits_and_a_standing(text, number, standing):
    identifier = read_identifier(text)
    assert identifier is not None
    assert (identifier.number, identifier.standing) == (number, standing)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0000000000000", "It has only zeros."),
        ("4006381333932", "The check digit of “4006381333932” is wrong."),
        ("12345", "“12345” has 5 digits. A GTIN has 8, 12, 13 or 14."),
        ("none", "“NONE” has other characters than digits."),
    ],
)
def test_invalid_identifier_says_what_is_wrong(text, reason):
    identifier = read_identifier(text)
    assert identifier is not None
    assert (identifier.standing, identifier.reason) == (Standing.INVALID, reason)


def test_empty_identifier_is_unknown():
    assert read_identifier(" - ") is None


@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        ("Cola 0,5 l", {"500 ml"}), ("Cola 50cl", {"500 ml"}), ("Cola 1.5 Liter", {"1.5 l"}),
        ("Milk 16 fl. oz", {"473.2 ml"}), ("Kaffee 500 Gramm", {"500 g"}), ("Farine 1 kg", {"1 kg"}),
        ("Stick 256GB", {"256 GB"}), ("Disk 1 TB", {"1000 GB"}), ('TV 55"', {"1.397 m"}), ("Cable 6'", {"1.829 m"}),
        ("Saft 6 x 330 ml", {"330 ml"}), ("ml and kg without a number", set()), ("iPhone 12 mini", set()),
    ],
)  # fmt: skip
def test_quantities_have_normalised_units(name, quantities):
    assert set(map(str, parse_record(name=name).quantities)) == quantities


@pytest.mark.parametrize(
    ("name", "packs"),
    [
        ("Socks pack of 6", {6}), ("Socken 6er Pack", {6}), ("Socken 6 Stück", {6}), ("Chaussettes lot de 6", {6}),
        ("Calcetines pack de 6", {6}), ("Calze confezione da 6", {6}), ("Sokken set van 6", {6}),
        ("Meias pacote de 6", {6}), ("Cola 6 x 330 ml", {6}), ("Toothbrush twin pack", {2}),
        ("Monitor 800 x 600", set()),
    ],
)  # fmt: skip
def test_pack_counts_are_read_in_seven_languages(name, packs):
    assert parse_record(name=name).packs == packs


@pytest.mark.parametrize("name", ["green", "grün", "vert", "verde", "groen", "GRÜNES Hemd", "camisa verde"])
def test_colours_are_read_in_seven_languages(name):
    assert parse_record(name=name).colours == {"green"}


def test_models_are_numbers_with_letters_and_not_measures():
    record = parse_record(name="Sony DSC-W170 5-disc 1250-watt 18-70mm 4x125g 500ml 26109")
    assert record.models == {"dscw170", "26109"}


def test_quantities_of_attributes_count_and_unknown_attributes_are_left_out():
    record = parse_record(name="Cola", attributes={"Volume": "1.5 l", "Colour": None, "Note": ""})
    assert set(map(str, record.quantities)) == {"1.5 l"}
    assert record.attributes == {"volume": "1.5 l"}


@pytest.mark.parametrize("price", [None, "", "free", 0, -3, "NaN", "Infinity"])
def test_price_that_is_none_is_unknown(price):
    assert parse_record(price=price).price is None


@pytest.mark.parametrize("name", ["", "x", "x" * 2000, "é" * 5000, "1 " * 1000, "𝟝 kg ٣ l ² m", "\x00\ufffd", "----"])
def test_odd_names_are_parsed(name):
    record = parse_record(name=name, description=name, brand=name, category=name, gtin=name, mpn=name, currency=name)
    assert pickle.loads(pickle.dumps(record)) == record
