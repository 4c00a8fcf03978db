"""Measure the legacy features of a decoded image, beside what OpenCV takes for the same.

    python -m benchmarks.legacy [--json PATH] [--rounds N]

Synthetic images of several sizes, decoded beforehand, one core. ``extract_legacy`` includes shrinking, three features
and the storage format. The parts are timed on the shrunk image. OpenCV and scikit-image are compared if installed.
Their histogram, moments and patterns are plain ones, without weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import importlib
import json
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.images import photo
from benchmarks.machine import describe_machine, print_machine
from gpu import legacy


def measure(function: Callable[[Any], object], inputs: list[Any], rounds: int) -> tuple[float, float]:
    """Return the median and 95th percentile of one call in milliseconds, after one round of warm-up."""
    milliseconds = []
    for round_number in range(rounds + 1):
        for value in inputs:
            start = time.perf_counter()
            function(value)
            if round_number:
                milliseconds.append(1000 * (time.perf_counter() - start))
    return float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))


def import_optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=20, help="rounds over 10 images (default: 20)")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    print_machine()

    def show(name: str, function: Callable[[Any], object], inputs: list[Any]) -> None:
        median, p95 = measure(function, inputs, options.rounds)
        figures[name] = {"median_ms": round(median, 3), "p95_ms": round(p95, 3)}
        print(f"{name:<44} {median:8.2f} ms   p95 {p95:8.2f} ms")

    for width, height in ((256, 256), (640, 640), (1600, 1200), (16, 800)):
        images = [photo(width, height, seed) for seed in range(10)]
        show(f"extract_legacy, {width}x{height}", legacy.extract_legacy, images)

    squares = [photo(legacy.SIDE, legacy.SIDE, seed) for seed in range(10)]
    in_hsv = [np.asarray(square.convert("HSV")) for square in squares]
    in_grey = [np.asarray(square.convert("L")) for square in squares]
    show("  colour histogram", legacy.color_histogram, in_hsv)
    show("  Hu moments", legacy.hu_moments, in_grey)
    show("  texture histogram", legacy.texture_histogram, in_grey)
    cv2 = import_optional("cv2")
    if cv2 is not None:
        ranges = [0, 180, 0, 256, 0, 256]
        show("OpenCV: calcHist of HSV", lambda hsv: cv2.calcHist([hsv], [0, 1, 2], None, [28, 4, 2], ranges), in_hsv)
        show("OpenCV: HuMoments(moments(grey))", lambda grey: cv2.HuMoments(cv2.moments(grey)), in_grey)
    feature = import_optional("skimage.feature")
    if feature is not None:
        show("scikit-image: local_binary_pattern", lambda grey: feature.local_binary_pattern(grey, 8, 3), in_grey)
    if options.json:
        report = {"machine": describe_machine(), "milliseconds": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
