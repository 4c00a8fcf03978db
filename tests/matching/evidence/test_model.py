"""The model of evidence: weights add up, keep their sign, and are learned from labelled pairs."""

from __future__ import annotations

import json
import math
import random

import pytest

from matching.evidence.items import Evidence
from matching.evidence.model import WEIGHTS, EvidenceModel, fit, probability_of, shipped_model

FLAT = EvidenceModel(base=0.0, weights={})
MODEL = EvidenceModel(base=-1.0, weights={"name": (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)})


def item(kind: str, value: float | None) -> Evidence:
    return Evidence(kind, value, "")


def labelled(rule, count=400, seed=5):
    """Return pairs of two kinds of evidence, and whether they are the same by a rule with chance."""
    chance = random.Random(seed)
    evidence, labels = [], []
    for _pair in range(count):
        name, price = chance.uniform(-1, 1), chance.uniform(-1, 1)
        evidence.append([item("name", name), item("price", price)])
        labels.append(chance.random() < probability_of(rule(name, price)))
    return evidence, labels


@pytest.mark.parametrize(
    ("value", "weight"), [(1, 4), (-1, -3), (0.5, 1.5), (-0.5, -1.5), (0, 0), (None, 0), (5 / 6, 3)]
)
def test_weight_lies_between_the_stored_ones(value, weight):
    assert MODEL.weight(item("name", value)) == pytest.approx(weight)


def test_weights_add_in_log_odds_and_unknown_kinds_add_nothing():
    items = [item("name", 1), item("name", -1), item("other", 1), item("name", None)]
    assert MODEL.log_odds(items) == pytest.approx(-1 + 4 - 3)
    assert MODEL.probability(items) == pytest.approx(0.5)


def test_probability_of_any_log_odds_is_a_number():
    assert [probability_of(value) for value in (-1e6, -700, 0, 700, 1e6)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_learned_weights_have_the_sign_of_their_meaning():
    evidence, labels = labelled(lambda name, price: 4 * name - 4 * price)
    model = fit(evidence, labels, prior=FLAT, strength=0.1)
    assert model.weight(item("name", 1)) > 1
    assert model.weight(item("name", -1)) < -1
    # A price that is alike speaks against here. It gets no weight, never a negative one.
    assert all(abs(knot) < 1e-6 for knot in model.weights["price"])


def test_kinds_that_no_pair_has_keep_their_weights():
    evidence, labels = labelled(lambda name, price: 4 * name)
    prior = EvidenceModel(base=0.0, weights={"identifier": (-5.0, -3.0, -1.0, 0.0, 2.0, 5.0, 8.0)})
    assert fit(evidence, labels, prior=prior).weights["identifier"] == pytest.approx(prior.weights["identifier"])


def test_prior_holds_the_weights_that_few_pairs_would_move():
    evidence, labels = labelled(lambda name, price: 6 * name, count=30)
    free = fit(evidence, labels, prior=MODEL, strength=0.01).weight(item("name", 1))
    held = fit(evidence, labels, prior=MODEL, strength=1000.0).weight(item("name", 1))
    assert held == pytest.approx(4, abs=0.1)
    assert abs(free - 4) > 0.5


def test_groups_share_their_weights_but_not_how_many_are_the_same():
    rare, rare_labels = labelled(lambda name, price: 4 * name - 3, seed=1)
    common, common_labels = labelled(lambda name, price: 4 * name + 3, seed=2)
    groups = [0] * len(rare) + [1] * len(common)
    labels = rare_labels + common_labels
    together = fit(rare + common, labels, prior=FLAT, strength=0.1)
    grouped = fit(rare + common, labels, prior=FLAT, strength=0.1, groups=groups)
    assert grouped.weight(item("name", 1)) > together.weight(item("name", 1))
    assert abs(grouped.base) < 1


@pytest.mark.parametrize("label", [True, False])
def test_pairs_of_one_kind_are_refused_in_a_sentence(label):
    with pytest.raises(ValueError, match=r"The model needs pairs that are the same product and pairs that are not\."):
        fit([[item("name", 1)]], [label], prior=FLAT)


def test_contradicting_labels_of_equal_evidence_give_no_promise():
    evidence = [[item("name", 1.0)]] * 100
    model = fit(evidence, [True, False] * 50, prior=FLAT, strength=0.1)
    assert model.probability(evidence[0]) == pytest.approx(0.5, abs=0.02)


def test_stored_model_is_the_same_after_reading():
    assert EvidenceModel.from_dict(json.loads(json.dumps(MODEL.as_dict()))) == MODEL


@pytest.mark.parametrize("knots", [[0, 0, 0], [-1, -2, 0, 0, 0, 0, 1], [-3, -2, -1, 0.5, 1, 2, 3]])
def test_stored_weights_with_a_wrong_sign_are_refused(knots):
    with pytest.raises(ValueError, match="7 rising numbers with 0 in the middle"):
        EvidenceModel.from_dict({"base": 0, "weights": {"name": knots}})


def test_shipped_weights_say_how_they_were_made():
    stored = json.loads(WEIGHTS.read_text("utf-8"))
    assert stored["made_with"].startswith("python -m benchmarks.evidence_weights")
    assert len(stored["learned_from"]) == 3
    assert shipped_model().weight(item("identifier", 1.0)) > 5
    assert math.isfinite(shipped_model().base)
