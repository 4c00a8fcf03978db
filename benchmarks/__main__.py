"""All benchmarks, one after another: a table of each on the terminal, all figures in var/bench.json (``make bench``).

The pictures are the demo catalogue's drawings at the size of ordinary product photographs, the model is a ViT-B/32 with
random weights, which costs what the real one costs. Each benchmark can also be run alone, on pictures and a model of
your own; its module says how.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, print_machine
from benchmarks.random_clip import build
from products.demo.drawing import draw_catalogue

REPO = Path(__file__).resolve().parent.parent
PICTURE_SIDE = 480


def draw(folder: Path) -> Path:
    """Write the demo's pictures to ``folder`` as JPEGs with a longer side of 480 pixels."""
    folder.mkdir()
    for number, picture in enumerate(draw_catalogue()):
        image = picture.image.convert("RGB")
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        image.save(folder / f"{number:03}.jpg", quality=90)
    return folder


def main() -> int:
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = draw(folder / "pictures")
        model = build(folder / "ViT-B-32-random", "ViT-B-32")
        encode = ["--images", str(pictures), "--model", str(model)]
        benchmarks = {
            "legacy": [],
            "upload": [],
            "encode": [*encode, "--limit", "100", "--repeat", "3"],
            "questions": [*encode, "--pictures", "500"],
            "search": ["--n", "100000"],
            "http": [],
            "admin": ["--products", "20000"],
            "history": ["--rows", "2000"],
        }
        figures: dict[str, Any] = {"machine": describe_machine()}
        failed = []
        for benchmark, arguments in benchmarks.items():
            print(f"\n== {benchmark}", flush=True)
            report = folder / f"{benchmark}.json"
            command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments, "--json", str(report)]
            if subprocess.run(command, cwd=REPO).returncode:
                failed.append(benchmark)
            else:
                figures[benchmark] = json.loads(report.read_text())
    target = REPO / "var" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2))
    print(f"\nAll figures are in {target.relative_to(REPO)}.")
    if failed:
        print(f"Failed: {', '.join(failed)}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
