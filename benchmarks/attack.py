"""Measure an ordinary request and the memory of the web server during attacks.

    python -m benchmarks.attack [--json PATH] [--seconds N]

Starts the web server with its production configuration (catalogmatch/web/gunicorn_conf.py) on an empty database,
reachable from this machine only. One client lists products in a loop: first alone, then during each attack.

- large bodies: four clients that each send 1 GiB, again and again;
- slow clients: 50 at 100 bytes a second, half of them in the headers, half in an image;
- bombs: 16 clients that upload small files of very many pixels, some within the limits and some beyond.

The goals: p95 of an ordinary request of at most 500 ms, and memory that does not grow with the attack.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import multiprocessing
import os
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import psutil

from benchmarks.images import decompression_bomb
from benchmarks.installation import environment, manage, multipart_form, web_server
from benchmarks.machine import describe_machine, print_machine

MIB = 2**20
SECONDS_BEFORE_MEASURING = 3
Address = tuple[str, int]
Attacker = Callable[[Address, str], None]  # opens one connection with a token


def request_head(token: str, length: int, content_type: str = "multipart/form-data; boundary=x") -> bytes:
    return (
        f"POST /api/products/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Token {token}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def send_large_body(address: Address, token: str) -> None:
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(request_head(token, 1024 * MIB))
        for _ in range(1024):
            connection.sendall(bytes(MIB))


def slow_sender(data: bytes) -> Attacker:
    """Return an attacker that sends ``data`` with 100 bytes a second."""

    def send(address: Address, token: str) -> None:
        request = data.replace(b"TOKEN", token.encode())
        with socket.create_connection(address, timeout=30) as connection:
            for start in range(0, len(request), 10):
                connection.sendall(request[start : start + 10])
                time.sleep(0.1)

    return send


def uploader(file: bytes) -> Attacker:
    def send(address: Address, token: str) -> None:
        body, content_type = multipart_form(file)
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(request_head(token, len(body), content_type) + body)
            connection.recv(1024)

    return send


def attacks() -> dict[str, list[Attacker]]:
    """Return the concurrent attackers of each attack."""
    headers = b"GET /api/products HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Nothing: 0123456789\r\n" * 2000
    body = request_head("TOKEN", MIB) + bytes(MIB)
    bombs = [uploader(decompression_bomb(side)) for side in (13_300, 6_300)]
    return {
        "large bodies": [send_large_body] * 4,
        "slow clients": [slow_sender(headers), slow_sender(body)] * 25,
        "bombs": bombs * 8,
    }


def run_attack(name: str, address: Address, token: str) -> None:
    """Attack until this process is terminated. Each attacker connects again when the server cuts it off."""

    def repeat(attacker: Attacker) -> None:
        while True:
            with suppress(OSError):
                attacker(address, token)

    for attacker in attacks()[name]:
        threading.Thread(target=repeat, args=(attacker,), daemon=True).start()
    threading.Event().wait()


@contextmanager
def under_attack(name: str, address: Address, token: str) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=run_attack, args=(name, address, token))
    process.start()
    time.sleep(SECONDS_BEFORE_MEASURING)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def measure(url: str, token: str, seconds: float) -> dict[str, float]:
    """Return milliseconds of ordinary requests and the peak memory of web server and decoders in MiB."""
    request = urllib.request.Request(f"{url}/api/products", headers={"Authorization": f"Token {token}"})
    milliseconds, memory = [], 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
        milliseconds.append(1000 * (time.perf_counter() - start))
        if len(milliseconds) % 20 == 1:
            memory = max(memory, server_memory_mib())
        time.sleep(0.02)
    return {
        "requests": len(milliseconds),
        "median_ms": round(float(np.median(milliseconds)), 1),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 1),
        "max_ms": round(max(milliseconds), 1),
        "memory_mib": round(memory),
    }


def server_memory_mib() -> float:
    """Return the memory of gunicorn's and the decoders' processes. Shared pages count once."""
    total = 0.0
    for process in psutil.Process(os.getpid()).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("gunicorn" in word or word == "gpu.sandbox.server" for word in process.cmdline()):
                total += process.memory_full_info().pss / MIB
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--seconds", type=float, default=15, help="length of each attack (default: 15)")
    options = parser.parse_args()
    print_machine()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="catalogmatch-attack-") as folder, ExitStack() as stack:
        env = environment(Path(folder))
        url, token = stack.enter_context(web_server(env, workers=2))
        attacker_token = manage(env, "create_token", "attacker", "--role", "uploader").strip()
        host, _, port = url.removeprefix("http://").partition(":")
        figures["alone"] = measure(url, token, options.seconds / 3)
        for name in attacks():
            with under_attack(name, (host, int(port)), attacker_token):
                figures[name] = measure(url, token, options.seconds)
        figures["afterwards"] = measure(url, token, options.seconds / 3)
    for name, row in figures.items():
        print(
            f"{name:<14} median {row['median_ms']:7.1f} ms   p95 {row['p95_ms']:7.1f} ms   "
            f"max {row['max_ms']:7.1f} ms   memory {row['memory_mib']:5.0f} MiB   (goal p95 500 ms)"
        )
    if options.json:
        report = {"benchmark": "attack", "machine": describe_machine(), "results": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
