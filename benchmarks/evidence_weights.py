"""Learn the weights of evidence that the program ships, from labelled pairs.

    python -m benchmarks.evidence_weights TRAIN TRAIN …

The files are those of ``benchmarks.pairs``. Writes ``matching/evidence/weights.json``, learned from all files, and
``benchmarks/evidence_weights.json``, learned without each of them, so that ``benchmarks.pairs`` can measure weights on
a collection that they have not seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import hashlib
import json
from typing import Any

from benchmarks.assumed_weights import ASSUMED
from benchmarks.pairs import LEFT_OUT, Pairs, Records
from matching.evidence.items import Evidence
from matching.evidence.model import WEIGHTS, fit

# A collection tells more about itself than about another catalogue, so the assumed weights count for much.
STRENGTH = 20.0


def learn(files: list[Path]) -> dict[str, Any]:
    """Return the model of these files as a dict, with how it was made."""
    evidence: list[list[Evidence]] = []
    labels: list[bool] = []
    groups: list[int] = []
    for number, path in enumerate(files):
        pairs = Pairs.read(path)
        evidence += Records(pairs).evidence(pairs)
        labels += pairs.labels
        groups += [number] * len(pairs.labels)
    model = fit(evidence, labels, prior=ASSUMED, strength=STRENGTH, groups=groups)
    made = f"python -m benchmarks.evidence_weights {' '.join(path.name for path in files)}"
    return {"made_with": made, "learned_from": [path.name for path in files], "pairs": len(labels), **model.as_dict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="TRAIN")
    files = sorted(parser.parse_args().files)
    left_out = {
        hashlib.sha256(path.read_bytes()).hexdigest(): learn([other for other in files if other != path])
        for path in files
        if len(files) > 1
    }
    LEFT_OUT.write_text(json.dumps(left_out, indent=1) + "\n", encoding="utf-8")
    WEIGHTS.write_text(json.dumps(learn(files), indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {WEIGHTS} and {LEFT_OUT}.")


if __name__ == "__main__":
    main()
