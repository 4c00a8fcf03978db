"""Measure one upload through HTTP without a broker, and the time that ``manage.py check`` takes.

    python -m benchmarks.upload [--json PATH] [--uploads N] [--images FOLDER]

Starts the real web server (gunicorn, one process) on an empty database in a temporary folder. Uploads new products
one after another with a token. The server checks, stores, embeds (legacy features) and matches each before it
responds. The images are synthetic photos in two sizes, or the files in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
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


def upload(url: str, token: str, image: bytes) -> float:
    """Return the seconds until the response. Raises RuntimeError if it comes without features."""
    body, content_type = multipart_form(image)
    headers = {"Authorization": f"Token {token}", "Content-Type": content_type}
    request = urllib.request.Request(f"{url}/api/products/upload", body, headers)
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        product = json.load(response)
    seconds = time.perf_counter() - start
    if product["feature_type"] != "legacy":
        raise RuntimeError(f"The upload returned no legacy features: {product}")
    return seconds


def check_seconds(env: dict[str, str], rounds: int = 5) -> float:
    """Return the median seconds of ``manage.py check``, including the start of the process."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        manage(env, "check")
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--uploads", type=int, default=60, help="uploads of each size (default: 60)")
    parser.add_argument("--images", "--pictures", type=Path, help="a folder of images to upload instead")
    options = parser.parse_args()
    count = options.uploads + WARM_UP
    if options.images:
        files = sorted(path for path in options.images.iterdir() if path.is_file())[:count]
        images = {f"upload, {options.images.name}": [path.read_bytes() for path in files]}
    else:
        images = {f"upload, {w}x{h}": [photo_as_jpeg(w, h, seed) for seed in range(count)] for w, h in SIZES}
    print_machine()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="catalogmatch-upload-") as folder:
        env = environment(Path(folder))
        with web_server(env) as (url, token):
            for name, contents in images.items():
                milliseconds = [1000 * upload(url, token, content) for content in contents][WARM_UP:]
                median, p95 = float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))
                figures[name] = {"median_ms": round(median, 1), "p95_ms": round(p95, 1)}
                size = sum(map(len, contents)) / len(contents) / 1024
                print(f"{name:<28} median {median:7.1f} ms   p95 {p95:7.1f} ms   ({size:.0f} KiB, goal 150 ms)")
        seconds = check_seconds(env)
    figures["manage.py check"] = {"median_s": round(seconds, 2)}
    print(f"{'manage.py check':<28} median {seconds:7.2f} s    (goal 1.5 s)")
    if options.json:
        report = {"benchmark": "upload", "machine": describe_machine(), "results": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
