"""Measure evidence from text and numbers on labelled pairs of products.

    python -m benchmarks.pairs TRAIN VALID TEST [--json PATH]

Each file has one pair a line: left TAB right TAB 1 or 0, and a side is ``COL name VAL value …``, also compressed as
``.gz``. The weights are fitted on TRAIN. VALID chooses how strongly they are held to the assumed ones, and with TRAIN
the threshold. TEST is only measured. ``shipped`` measures the weights that the program ships, calibrated on VALID as
decisions would, with a threshold from VALID. If they were learned from TRAIN, it takes those learned without it.

Word frequencies come from the texts of the three files, without their labels: the catalogue is known.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import gzip
import hashlib
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from benchmarks.assumed_weights import ASSUMED
from matching.evidence.comparison import compare
from matching.evidence.items import Evidence
from matching.evidence.model import EvidenceModel, fit, shipped_model
from matching.evidence.records import Record, parse_record
from matching.evidence.statistics import CatalogueStatistics

LEFT_OUT = Path(__file__).with_name("evidence_weights.json")
STRENGTHS = (0.1, 0.3, 1.0, 3.0)
ECE_BINS = 15

Doubles = npt.NDArray[np.float64]
_COLUMN = re.compile(r"COL (\w+) VAL (.*?)(?= COL \w+ VAL |$)")
_FIELDS = {"title": "name", "manufacturer": "brand", "modelno": "mpn"}


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs as fields of products, with equal products parsed once."""

    left: list[dict[str, str]]
    right: list[dict[str, str]]
    labels: list[bool]

    @classmethod
    def read(cls, path: Path) -> Pairs:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file if line.strip()]
        return cls(
            [_fields(row[0]) for row in rows],
            [_fields(row[1]) for row in rows],
            [row[2].strip() == "1" for row in rows],
        )

    def sides(self) -> list[dict[str, str]]:
        return self.left + self.right


class Records:
    """The records of products by their fields, each parsed once."""

    def __init__(self, *collections: Pairs) -> None:
        self._records: dict[str, Record] = {}
        for pairs in collections:
            for fields in pairs.sides():
                key = repr(fields)
                if key not in self._records:
                    self._records[key] = parse_record(**fields)  # type: ignore[arg-type]
        self.statistics = CatalogueStatistics.of(self._records.values())

    def evidence(self, pairs: Pairs) -> list[list[Evidence]]:
        sides = zip(pairs.left, pairs.right, strict=True)
        return [
            compare(self._records[repr(left)], self._records[repr(right)], self.statistics) for left, right in sides
        ]


def measure(probabilities: Doubles, labels: Doubles, threshold: float) -> dict[str, float]:
    """Return precision, recall, F1 and expected calibration error at a threshold."""
    said = probabilities >= threshold
    right = float((said & (labels > 0)).sum())
    precision, recall = right / max(said.sum(), 1), right / max(labels.sum(), 1)
    return {
        "f1": round(f1(labels, probabilities, threshold), 4),
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
        "ece": round(calibration_error(labels, probabilities), 4),
        "threshold": round(threshold, 3),
    }


def f1(labels: Doubles, probabilities: Doubles, threshold: float) -> float:
    said = probabilities >= threshold
    return float(2 * (said & (labels > 0)).sum() / max(said.sum() + labels.sum(), 1))


def calibration_error(labels: Doubles, probabilities: Doubles) -> float:
    """Return the expected calibration error over bins of equally many pairs."""
    bins = np.array_split(np.argsort(probabilities, kind="stable"), min(ECE_BINS, len(labels)))
    return float(sum(abs(labels[bin_].mean() - probabilities[bin_].mean()) * len(bin_) for bin_ in bins) / len(labels))


def calibrate(probabilities: Doubles, labels: Doubles) -> Callable[[Doubles], Doubles]:
    """Return what makes probabilities fit labels: two numbers that move and stretch their log-odds (Platt, 1999)."""

    def loss(numbers: Doubles) -> float:
        moved = numbers[0] + numbers[1] * _log_odds(probabilities)
        return float(np.logaddexp(0, moved).sum() - labels @ moved)

    base, slope = minimize(loss, [0.0, 1.0], method="L-BFGS-B", bounds=[(None, None), (0.01, None)]).x
    return lambda others: np.asarray(1 / (1 + np.exp(-base - slope * _log_odds(others))))


def best_threshold(labels: Doubles, probabilities: Doubles) -> float:
    """Return the middle of the thresholds that reach nearly the best F1: a single best one is chance."""
    thresholds = np.linspace(0.02, 0.98, 97)
    scores = np.array([f1(labels, probabilities, threshold) for threshold in thresholds])
    return float(np.median(thresholds[scores >= scores.max() - 0.002]))


def contradictions(*collections: Pairs) -> dict[str, Any]:
    """Return how often pairs that look the same carry both labels.

    Pairs look the same if both names are equal, or if the same two products occur again.
    """
    equal: Counter[bool] = Counter()
    of_pair: defaultdict[str, set[bool]] = defaultdict(set)
    for pairs in collections:
        for left, right, label in zip(pairs.left, pairs.right, pairs.labels, strict=True):
            of_pair[repr((left, right))].add(label)
            if left["name"] and left["name"] == right["name"]:
                equal[label] += 1
    different = equal[False]
    names = equal.total()
    text = "Pairs with equal names are labelled alike."
    if different and equal[True]:
        text = (
            f"The labels contradict themselves: of {names} pairs with equal names, {different} are labelled different. "
            f"From names alone, no precision above {equal[True] / names:.2f} can be promised."
        )
    return {
        "equal_names": names,
        "equal_names_labelled_different": different,
        "pairs_with_both_labels": sum(len(labels) > 1 for labels in of_pair.values()),
        "text": text,
    }


def run(train: Path, valid: Path, test: Path) -> dict[str, Any]:
    """Fit, choose and measure."""
    collections = [Pairs.read(path) for path in (train, valid, test)]
    records = Records(*collections)
    evidence = [records.evidence(pairs) for pairs in collections]
    labels = [np.array(pairs.labels, dtype=np.float64) for pairs in collections]
    fitted = [fit(evidence[0], collections[0].labels, prior=ASSUMED, strength=strength) for strength in STRENGTHS]
    model = min(fitted, key=lambda model: _log_loss(model, evidence[1], labels[1]))
    chosen_on = evidence[0] + evidence[1]
    threshold = best_threshold(np.concatenate(labels[:2]), _probabilities(model, chosen_on))
    shipped, learned_from = _shipped(train)
    before = _probabilities(shipped, evidence[1])
    calibrated = calibrate(before, labels[1])
    shipped_threshold = best_threshold(labels[1], calibrated(before))
    untouched = _probabilities(shipped, evidence[2])
    return {
        **measure(_probabilities(model, evidence[2]), labels[2], threshold),
        "pairs": len(labels[2]),
        "same": int(labels[2].sum()),
        "strength": STRENGTHS[fitted.index(model)],
        "shipped": {
            **measure(calibrated(untouched), labels[2], shipped_threshold),
            "ece_before_calibration": round(calibration_error(labels[2], untouched), 4),
            "learned_from": learned_from,
        },
        **_timing(collections[2], records.statistics),
        "contradictions": contradictions(*collections),
        "weights": model.as_dict(),
    }


def _timing(pairs: Pairs, statistics: CatalogueStatistics) -> dict[str, float]:
    """Return the cost of parsing both products of each pair, and of comparing and weighing them.

    Seconds of the processor, the best of three, so that other programs do not count.
    """
    model = shipped_model()
    parsing, weighing = [], []
    for _repeat in range(3):
        start = time.process_time()
        records = [parse_record(**fields) for fields in pairs.sides()]  # type: ignore[arg-type]
        parsed = time.process_time()
        for left, right in zip(records, records[len(pairs.left) :], strict=False):
            model.probability(compare(left, right, statistics))
        parsing.append(parsed - start)
        weighing.append(time.process_time() - parsed)
    thousands = len(pairs.labels) / 1000
    return {
        "parse_ms_per_record": round(min(parsing) / thousands / 2, 4),
        "seconds_per_thousand_pairs": round((min(parsing) + min(weighing)) / thousands, 4),
        "seconds_per_thousand_pairs_parsed_before": round(min(weighing) / thousands, 4),
    }


def _shipped(train: Path) -> tuple[EvidenceModel, list[str]]:
    """Return the shipped weights, or those learned without a file that they were learned from."""
    digest = hashlib.sha256(train.read_bytes()).hexdigest()
    left_out = json.loads(LEFT_OUT.read_text("utf-8"))
    if digest in left_out:
        return EvidenceModel.from_dict(left_out[digest]), left_out[digest]["learned_from"]
    return shipped_model(), ["the weights of the program"]


def _probabilities(model: EvidenceModel, evidence: Sequence[Sequence[Evidence]]) -> Doubles:
    return np.array([model.probability(items) for items in evidence])


def _log_odds(probabilities: Doubles) -> Doubles:
    clipped = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _log_loss(model: EvidenceModel, evidence: Sequence[Sequence[Evidence]], labels: Doubles) -> float:
    log_odds = np.array([model.log_odds(items) for items in evidence])
    return float((np.logaddexp(0, log_odds) - labels * log_odds).mean())


def _fields(side: str) -> dict[str, str]:
    fields = {"name": ""}
    for column, value in _COLUMN.findall(f"{side.strip()} "):
        fields[_FIELDS.get(column, column)] = value.strip()
    return fields


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("train", "valid", "test"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args()
    result = run(options.train, options.valid, options.test)
    for name, value in result.items():
        if name != "weights":
            print(f"{name:42} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
