"""The benchmarks of evidence measure what they say, on small inputs of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pairs import Pairs, calibration_error, contradictions, run
from benchmarks.synthetic_catalogue import Rates
from benchmarks.synthetic_catalogue import run as run_catalogue


def side(name: str, price: float) -> str:
    return f"COL title VAL {name} COL manufacturer VAL acme COL price VAL {price}"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write three files of lamps. The same lamp has the same model, and its name is written in another order."""
    paths = []
    for file in range(3):
        lines = []
        for number in range(40):
            model = f"lx{file}{number:02}"
            left = side(f"acme desk lamp {model}", 20 + number)
            lines.append(f"{left}\t{side(f'{model} lamp for the desk', 20 + number)}\t1")
            lines.append(f"{left}\t{side(f'lx{file}{number + 50} lamp for the wall', 60 + number)}\t0")
        path = tmp_path / f"{file}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def test_pairs_that_models_tell_apart_are_told_apart(files):
    result = run(*files)
    assert (result["f1"], result["precision"], result["recall"], result["pairs"], result["same"]) == (1, 1, 1, 80, 40)
    assert result["shipped"]["f1"] == 1
    assert result["shipped"]["learned_from"] == ["the weights of the program"]
    assert result["contradictions"]["text"] == "Pairs with equal names are labelled alike."


def test_labels_that_contradict_themselves_are_noticed(tmp_path):
    lines = [f"{side('lamp', 5)}\t{side('lamp', 6)}\t1", f"{side('lamp', 5)}\t{side('lamp', 6)}\t0"]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join([*lines, lines[0], lines[1], lines[1]]), encoding="utf-8")
    found = contradictions(Pairs.read(path))
    assert (found["equal_names"], found["equal_names_labelled_different"], found["pairs_with_both_labels"]) == (5, 3, 1)
    assert found["text"] == (
        "The labels contradict themselves: of 5 pairs with equal names, 3 are labelled different. "
        "From names alone, no precision above 0.40 can be promised."
    )


def test_calibration_error_is_the_distance_from_what_happened():
    assert calibration_error(np.array([1.0, 0.0] * 15), np.full(30, 0.5)) == pytest.approx(0.0)
    assert calibration_error(np.array([1.0, 0.0] * 15), np.full(30, 0.9)) == pytest.approx(0.4)


def test_synthetic_catalogue_confirms_the_right_variants():
    result = run_catalogue(seed=3, products=150, rates=Rates(), confirm=0.98)
    assert result["precision"] >= 0.98
    assert result["coverage"] > 0.5
    assert result["variants_told_apart"] > 0.9


def test_synthetic_catalogue_without_identifiers_confirms_less():
    rates = Rates(missing_gtin=1.0)
    assert run_catalogue(seed=3, products=150, rates=rates, confirm=0.98)["coverage"] < 0.3
