"""Milliseconds that one upload takes through HTTP without a broker, and seconds that `manage.py check` takes.

    python -m benchmarks.upload [--json PATH] [--uploads N] [--pictures FOLDER]

Starts the real web server (gunicorn, one process) on an empty database in a temporary folder and uploads new
products one after another with a token: each is checked, stored, embedded with legacy features and matched before
it is answered. The pictures are synthetic photographs in two sizes, or those in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of this file's folder, whose http.py would hide Python's own.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import tempfile
import time
import urllib.request

import numpy as np

from benchmarks.images import photo_as_jpeg
from benchmarks.installation import environment, manage, multipart_form, web_server
from benchmarks.machine import describe_machine, print_machine

SIZES = ((400, 533), (1600, 1200))
WARM_UP = 5


def upload(url: str, token: str, data: bytes) -> float:
    """Seconds until an upload is answered. Raises RuntimeError when its features are not there then."""
    body, content_type = multipart_form(data)
    headers = {"Authorization": f"Token {token}", "Content-Type": content_type}
    request = urllib.request.Request(f"{url}/api/products/upload", body, headers)
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    taken = time.perf_counter() - start
    if answer["feature_type"] != "legacy":
        raise RuntimeError(f"the upload was answered with {answer}")
    return taken


def check_seconds(env: dict[str, str], rounds: int = 5) -> float:
    """Median seconds of `manage.py check`, process start included."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        manage(env, "check")
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--uploads", type=int, default=60, help="of each kind")
    parser.add_argument("--pictures", type=Path, help="folder of pictures to upload instead")
    arguments = parser.parse_args()
    number = arguments.uploads + WARM_UP
    if arguments.pictures:
        files = sorted(path for path in arguments.pictures.iterdir() if path.is_file())[:number]
        kinds = {f"upload, {arguments.pictures.name}": [path.read_bytes() for path in files]}
    else:
        kinds = {f"upload, {w}x{h}": [photo_as_jpeg(w, h, seed) for seed in range(number)] for w, h in SIZES}
    print_machine()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="catalogmatch-upload-") as folder:
        env = environment(Path(folder))
        with web_server(env) as (url, token):
            for name, contents in kinds.items():
                taken = [1000 * upload(url, token, data) for data in contents][WARM_UP:]
                median, p95 = float(np.median(taken)), float(np.percentile(taken, 95))
                figures[name] = {"median_ms": round(median, 1), "p95_ms": round(p95, 1)}
                size = sum(map(len, contents)) / len(contents) / 1024
                print(f"{name:<28} median {median:7.1f} ms   p95 {p95:7.1f} ms   ({size:.0f} KiB, goal 150 ms)")
        seconds = check_seconds(env)
    figures["manage.py check"] = {"median_s": round(seconds, 2)}
    print(f"{'manage.py check':<28} median {seconds:7.2f} s    (goal 1.5 s)")
    if arguments.json:
        report = {"benchmark": "upload", "machine": describe_machine(), "results": figures}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
