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
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.legacy import picture
from benchmarks.machine import describe_machine, print_machine

REPO = Path(__file__).resolve().parent.parent
SIZES = ((400, 533), (1600, 1200))
WARM_UP = 5
START_SECONDS = 30.0


def synthetic(width: int, height: int, seed: int) -> bytes:
    """A photograph's size and weight as a JPEG."""
    buffer = io.BytesIO()
    picture(width, height, seed).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


@contextmanager
def server(folder: Path, workers: int = 1) -> Iterator[tuple[str, str]]:
    """A running installation in ``folder``, with so many web processes; answers its address and a token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    env = environment(folder)
    manage(env, "migrate", "--verbosity", "0")
    token = manage(env, "create_token", "benchmark", "--role", "uploader").strip()
    options = ["--config", "catalogmatch/web/gunicorn_conf.py", "--bind", address, "--workers", str(workers)]
    command = [sys.executable, "-m", "gunicorn", *options]
    process = subprocess.Popen(command, cwd=REPO, env=env, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_alive(address):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("the web server did not start")
            time.sleep(0.05)
        yield f"http://{address}", token
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def environment(folder: Path) -> dict[str, str]:
    """No setting but the defaults, whatever is in the environment or in .env."""
    prefixes = ("DJANGO_", "CLIP_", "CELERY_", "CATALOGMATCH_", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return env | {
        "CATALOGMATCH_ENV_FILE": os.devnull,
        "CATALOGMATCH_DATA_DIR": str(folder),
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        # Without weights: this is about legacy features.
        "CLIP_CACHE_DIR": str(folder / "no-models"),
    }


def manage(env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, str(REPO / "manage.py"), *arguments]
    return subprocess.run(command, env=env, cwd=REPO, check=True, stdout=subprocess.PIPE, text=True).stdout


def is_alive(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=5):
            return True
    except OSError:  # refused, or not answered while it starts
        return False


def upload(url: str, token: str, data: bytes) -> float:
    """Seconds until an upload is answered. Raises RuntimeError when its features are not there then."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="p.jpg"\r\n\r\n'.encode()
    body = head + data + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Authorization": f"Token {token}", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{url}/api/products/upload", body, headers)
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    taken = time.perf_counter() - start
    if answer["feature_type"] != "legacy":
        raise RuntimeError(f"the upload was answered with {answer}")
    return taken


def check_seconds(folder: Path, rounds: int = 5) -> float:
    """Median seconds of `manage.py check`, process start included."""
    env = environment(folder)
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
        kinds = {f"upload, {w}x{h}": [synthetic(w, h, seed) for seed in range(number)] for w, h in SIZES}
    print_machine()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="catalogmatch-upload-") as folder:
        with server(Path(folder)) as (url, token):
            for name, contents in kinds.items():
                taken = [1000 * upload(url, token, data) for data in contents][WARM_UP:]
                median, p95 = float(np.median(taken)), float(np.percentile(taken, 95))
                figures[name] = {"median_ms": round(median, 1), "p95_ms": round(p95, 1)}
                size = sum(map(len, contents)) / len(contents) / 1024
                print(f"{name:<28} median {median:7.1f} ms   p95 {p95:7.1f} ms   ({size:.0f} KiB, goal 150 ms)")
        seconds = check_seconds(Path(folder))
    figures["manage.py check"] = {"median_s": round(seconds, 2)}
    print(f"{'manage.py check':<28} median {seconds:7.2f} s    (goal 1.5 s)")
    if arguments.json:
        report = {"benchmark": "upload", "machine": describe_machine(), "results": figures}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
