"""What an ordinary request and the memory come to while the web server is attacked.

    python -m benchmarks.attack [--json PATH] [--seconds N]

Starts the web server as it is meant to run (catalogmatch/web/gunicorn_conf.py) on an empty database in a
temporary folder, on the loopback only, and lists products with one client, again and
again: first alone, then beside each attack.

- large bodies: four clients that each send 1 GiB, again and again;
- slow clients: 50 at 100 bytes a second, half of them in the headers, half in a picture;
- bombs: 16 clients that upload small files of very many pixels, some within the limits and some beyond.

The bars: an ordinary request's p95 of at most 500 ms, and memory that does not grow with the attack.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of this file's folder, whose http.py would hide Python's own.
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
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.images import decompression_bomb
from benchmarks.installation import environment, manage, multipart_form, web_server
from benchmarks.machine import describe_machine, print_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
Address = tuple[str, int]


def head(token: str, length: int, content_type: str = "multipart/form-data; boundary=x") -> bytes:
    return (
        f"POST /api/products/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Token {token}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def send_large_body(address: Address, token: str) -> None:
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head(token, 1024 * MIB))
        for _ in range(1024):
            connection.sendall(bytes(MIB))


def send_slowly(data: bytes) -> Callable[[Address, str], None]:
    """A client that sends ``data`` with 100 bytes a second."""

    def attack(address: Address, token: str) -> None:
        whole = data.replace(b"TOKEN", token.encode())
        with socket.create_connection(address, timeout=30) as connection:
            for start in range(0, len(whole), 10):
                connection.sendall(whole[start : start + 10])
                time.sleep(0.1)

    return attack


def upload_file(data: bytes) -> Callable[[Address, str], None]:
    def attack(address: Address, token: str) -> None:
        body, content_type = multipart_form(data)
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(head(token, len(body), content_type) + body)
            connection.recv(1024)

    return attack


def attacks() -> dict[str, list[Callable[[Address, str], None]]]:
    """The clients of each attack."""
    headers = b"GET /api/products HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Nothing: 0123456789\r\n" * 2000
    body = head("TOKEN", MIB) + bytes(MIB)
    bombs = [upload_file(decompression_bomb(side)) for side in (13_300, 6_300)]
    return {
        "large bodies": [send_large_body] * 4,
        "slow clients": [send_slowly(headers), send_slowly(body)] * 25,
        "bombs": bombs * 8,
    }


def attack(name: str, address: Address, token: str) -> None:
    """Attack until this process is ended; each client starts again when it is cut off."""

    def client(once: Callable[[Address, str], None]) -> None:
        while True:
            with suppress(OSError):
                once(address, token)

    for once in attacks()[name]:
        threading.Thread(target=client, args=(once,), daemon=True).start()
    threading.Event().wait()


@contextmanager
def attacked(name: str, address: Address, token: str) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(name, address, token))
    process.start()
    time.sleep(3)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def ordinary(url: str, token: str, seconds: float) -> dict[str, float]:
    """Milliseconds of ordinary requests, and what memory the web server and its decoders have at most (MiB)."""
    request = urllib.request.Request(f"{url}/api/products", headers={"Authorization": f"Token {token}"})
    taken, memory = [], 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
        taken.append(1000 * (time.perf_counter() - started))
        if len(taken) % 20 == 1:
            memory = max(memory, _memory())
        time.sleep(0.02)
    return {
        "requests": len(taken),
        "median_ms": round(float(np.median(taken)), 1),
        "p95_ms": round(float(np.percentile(taken, 95)), 1),
        "max_ms": round(max(taken), 1),
        "memory_mib": round(memory),
    }


def _memory() -> float:
    """MiB of all processes below this one that serve: gunicorn's and the decoders'. What they share counts once."""
    total = 0.0
    for process in psutil.Process(os.getpid()).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("gunicorn" in word or word == "gpu.sandbox.server" for word in process.cmdline()):
                total += process.memory_full_info().pss / MIB
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--seconds", type=float, default=15, help="of each attack")
    arguments = parser.parse_args()
    print_machine()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="catalogmatch-attack-") as folder, ExitStack() as stack:
        env = environment(Path(folder))
        url, token = stack.enter_context(web_server(env, workers=2))
        attacker = manage(env, "create_token", "attacker", "--role", "uploader").strip()
        host, _, port = url.removeprefix("http://").partition(":")
        figures["alone"] = ordinary(url, token, arguments.seconds / 3)
        for name in attacks():
            with attacked(name, (host, int(port)), attacker):
                figures[name] = ordinary(url, token, arguments.seconds)
        figures["afterwards"] = ordinary(url, token, arguments.seconds / 3)
    for name, found in figures.items():
        print(
            f"{name:<14} median {found['median_ms']:7.1f} ms   p95 {found['p95_ms']:7.1f} ms   "
            f"max {found['max_ms']:7.1f} ms   memory {found['memory_mib']:5.0f} MiB   (goal p95 500 ms)"
        )
    if arguments.json:
        report = {"benchmark": "attack", "machine": describe_machine(), "results": figures}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
