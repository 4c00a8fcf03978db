"""Time the whole job, from two folders of images to ten candidates an image, beside a short script at its best.

    python -m benchmarks.whole_job --model DIR_OR_NAME --catalogue DIR [DIR ...] --questions DIR [DIR ...]
                                   [--limit N] [--repeat 3] [--json PATH]

CatalogMatch starts with an empty data folder each time and runs its commands one after the other: ``migrate``,
``import_products`` twice, ``match_products``. It cleans and stores every image, computes both kinds of features and
saves the matches. The script (``whole_job_script.py``) only embeds and compares. It runs in float32 and bfloat16, and
its faster one counts. All process starts are included, and both take turns.

What ``auto`` measures on its very first run on a machine is counted apart, because it happens once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.machine import describe_machine, print_machine

REPO = Path(__file__).resolve().parent.parent
PRECISIONS = ("float32", "bfloat16")
SCRIPT = "benchmarks.whole_job_script"

# A product of a folder has the name of its file as SKU.
_ANSWERS = """
SELECT asked.sku, found.sku FROM matches
JOIN products asked ON asked.id = matches.product_id JOIN products found ON found.id = matches.candidate_id
"""


def main() -> None:
    options = _options()
    if Path(options.model).is_dir():
        options.model = str(Path(options.model).resolve())
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogue = _gather(options.catalogue, folder / "catalogue", "C", options.limit)
        questions = _gather(options.questions, folder / "questions", "Q", options.limit)
        images = [len(list(part.iterdir())) for part in (catalogue, questions)]
        env = os.environ | {"DJANGO_DEBUG": "1", "CLIP_MODEL": options.model, "CLIP_MEASURE": "0"}
        env["CLIP_CACHE_DIR"] = str(folder / "cache") if Path(options.model).is_dir() else env.get("CLIP_CACHE_DIR", "")
        first = _timed(_manage("benchmark_backends", "--model", options.model, "--images", str(catalogue)), env)
        seconds: dict[str, list[float]] = {name: [] for name in ("CatalogMatch", *PRECISIONS)}
        for round_ in range(options.repeat):
            data = folder / f"data{round_}"
            env["CATALOGMATCH_DATA_DIR"] = str(data)
            env["DATABASE_URL"] = f"sqlite:///{folder / f'{round_}.sqlite3'}"
            seconds["CatalogMatch"].append(sum(_timed(command, env) for command in _commands(catalogue, questions)))
            for precision in PRECISIONS:
                target = folder / f"{precision}.json"
                script = [sys.executable, "-m", SCRIPT, options.model, str(catalogue), str(questions), str(target)]
                seconds[precision].append(_timed([*script, precision], env))
            shutil.rmtree(data)
        scripts = {precision: json.loads((folder / f"{precision}.json").read_text()) for precision in PRECISIONS}
        answers = _stored_answers(folder / "0.sqlite3")
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    best = min(PRECISIONS, key=lambda precision: medians[precision])
    ratios = [ours / script for ours, script in zip(seconds["CatalogMatch"], seconds[best], strict=True)]
    report = {
        "top10_agreement": round(_agreement(answers, scripts[best]), 4),
        "machine": describe_machine(),
        "catalogue": images[0],
        "questions": images[1],
        "seconds": medians,
        "rounds": seconds,
        "best_script": best,
        "ratio": round(statistics.median(ratios), 3),
        "first_measurement_seconds": round(first, 1),
    }
    print(f"{images[0]} images in the catalogue, {images[1]} questions, medians of {options.repeat} rounds")
    for name, median in medians.items():
        print(f"  {name if name == 'CatalogMatch' else f'script, {name}'}: {median} s")
    print(f"CatalogMatch takes {report['ratio']} × the time of the script at its best ({best})")
    print(f"{report['top10_agreement']:.1%} of its candidates are those of the script")
    print(f"what auto measured once before: {first:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder (see random_clip.py) or a name with cached weights")
    parser.add_argument("--catalogue", required=True, type=Path, nargs="+", help="folders of images")
    parser.add_argument("--questions", required=True, type=Path, nargs="+", help="folders of images")
    parser.add_argument("--limit", type=int, help="images of each (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def _gather(sources: Sequence[Path], target: Path, prefix: str, limit: int | None) -> Path:
    """Copy the images of all sources to one folder, spread over them if there is a limit."""
    target.mkdir()
    paths = sorted(path for source in sources for path in source.rglob("*") if path.is_file())
    if not paths:
        raise SystemExit(f"There are no files in {', '.join(map(str, sources))}.")
    step = max(1, len(paths) // limit) if limit else 1
    for number, path in enumerate(paths[::step][:limit]):
        shutil.copy(path, target / f"{prefix}{number:05}{path.suffix}")
    return target


def _commands(catalogue: Path, questions: Path) -> list[list[str]]:
    return [
        _manage("migrate", "-v0"),
        _manage("import_products", str(catalogue), "--historical", "--no-views"),
        _manage("import_products", str(questions), "--no-views"),
        _manage("match_products", "--all", "--threshold", "0", "--limit", "10"),
    ]


def _stored_answers(database: Path) -> dict[str, set[str]]:
    answers: dict[str, set[str]] = {}
    with closing(sqlite3.connect(database)) as connection:
        for asked, found in connection.execute(_ANSWERS):
            answers.setdefault(asked, set()).add(found)
    return answers


def _agreement(answers: dict[str, set[str]], script: dict[str, list[str]]) -> float:
    """Return the share of the script's candidates that CatalogMatch has too."""
    expected = {Path(asked).stem: {Path(name).stem for name in names} for asked, names in script.items()}
    shares = [len(names & answers.get(asked, set())) / len(names) for asked, names in expected.items()]
    return statistics.mean(shares)


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(REPO / "manage.py"), *arguments]


def _timed(command: list[str], env: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        command, env=env, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:3])} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
