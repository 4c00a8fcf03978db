"""Run all benchmarks, print a table of each and write all figures to var/bench.json (``make bench``).

    python -m benchmarks [--images FOLDER]

The images are those in FOLDER, by default the demo's, as JPEGs at the size of ordinary product photographs. The model
is a ViT-B/32 with random weights, which costs as much as the real one. Each benchmark also runs alone, on your own
images and model: see its ``--help``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.machine import describe_machine, print_machine
from benchmarks.random_clip import build

REPO = Path(__file__).resolve().parent.parent
DEMO_IMAGES = REPO / "catalogmatch" / "demo" / "images"
MAX_SIDE_PIXELS = 480


def copy_as_jpegs(source: Path, target: Path) -> Path:
    """Write the images under ``source`` to ``target`` as JPEGs of at most 480 pixels a side.

    Skips files that Pillow cannot read.
    """
    target.mkdir()
    for number, path in enumerate(sorted(filter(Path.is_file, source.rglob("*")))):
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except OSError:
            continue
        image.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS))
        image.save(target / f"{number:03}.jpg", quality=90)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=DEMO_IMAGES, help="a folder of images (default: the demo's)")
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = copy_as_jpegs(arguments.images, folder / "images")
        model = build(folder / "ViT-B-32-random", "ViT-B-32")
        encode = ["--images", str(images), "--model", str(model)]
        benchmarks = {
            "legacy": [],
            "upload": [],
            "encode": [*encode, "--limit", "100", "--repeat", "3"],
            "queries": [*encode, "--n", "500"],
            "search": ["--n", "100000"],
            "http": [],
            "admin": ["--products", "20000"],
            "history": ["--rows", "2000"],
        }
        figures: dict[str, Any] = {"machine": describe_machine()}
        failed = []
        for benchmark, options in benchmarks.items():
            print(f"\n== {benchmark}", flush=True)
            report = folder / f"{benchmark}.json"
            command = [sys.executable, "-m", f"benchmarks.{benchmark}", *options, "--json", str(report)]
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
