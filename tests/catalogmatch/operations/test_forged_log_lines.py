"""No request, file or message can forge a line of a log or of a command's output, or control the terminal."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import BOUNDARY, encode_multipart

from catalogmatch.operations.logs import EscapingFormatter, JsonFormatter, PlainFormatter, restore_request_id
from core.escaping import escape
from core.request_id import request_id
from tests.helpers.installations import REPO, environment, manage
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port
from tests.helpers.sample_images import jpeg

FORGED = "2026-01-01 00:00:00,000 ERROR catalogmatch forged"
# Line ends of several kinds, a terminal's escape, controls of C1, marks of direction, and half a surrogate pair.
ENDS = ("\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
TRICKS = (*ENDS, "\x1b[2K\x1b[1A", "\x9b2K", "\x00", "\x08", "\x7f", "\u202e", "\u2066", "\u200f", "\u061c", "\udc85")
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+ ")


def record(message: str, *arguments: Any, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("products", logging.WARNING, __file__, 1, message, arguments, fields.pop("exc_info", None))
    vars(made).update(fields)
    return made


def raised(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_plain_record_is_one_line_whatever_it_holds(trick: str) -> None:
    text = f"x{trick}{FORGED}"
    for made in (
        record(text),
        record("%s", text),
        record("harmless", name=text),
        record("harmless", request_id=text),
        record("harmless", request_ids=[text]),
    ):
        line = PlainFormatter().format(made)
        assert line.isprintable()
        assert FORGED in line


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_lines_of_a_traceback_are_marked(trick: str) -> None:
    first, *others = PlainFormatter().format(record("failed", exc_info=raised(f"x{trick}{FORGED}"))).splitlines()
    assert first.endswith("WARNING products failed")
    assert all(line.startswith("  | ") and line.isprintable() for line in others)
    assert others[0] == "  | Traceback (most recent call last):"
    assert any(FORGED in line for line in others)


def test_traceback_that_another_formatter_left_is_marked_too() -> None:
    made = record("failed", exc_text=f"Traceback\n{FORGED}", stack_info=f"Stack\n{FORGED}")
    assert PlainFormatter().format(made).splitlines()[1:] == [
        "  | Traceback", f"  | {FORGED}", "  | Stack", f"  | {FORGED}",
    ]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_json_record_is_one_line_and_keeps_every_character(trick: str) -> None:
    text = f"x{trick}é{FORGED}"
    line = JsonFormatter().format(record("%s", text, request_id=text, path=text, exc_info=raised(text)))
    assert line.isprintable()
    parsed = json.loads(line)
    assert (parsed["message"], parsed["request_id"], parsed["path"]) == (text, text, text)
    assert text in parsed["traceback"]


def test_letters_of_all_scripts_stay_readable() -> None:
    assert escape("Müller 東京 \U0001f600 a\\b") == "Müller 東京 \U0001f600 a\\b"


@pytest.mark.parametrize("given", ["x\nforged", {"a": 1}, 7, "short", "x" * 100_000, None])
def test_id_in_the_headers_of_a_task_is_used_only_if_it_is_valid(given: object) -> None:
    class Task:
        class request:  # noqa: N801  (Celery's name)
            is_eager = False
            get = {"request_id": given}.get

    token = request_id.set("before-this-task")
    restore_request_id(task=Task)
    assert request_id.get() == ""
    request_id.reset(token)


# --- through the doors ---------------------------------------------------------------------------


class Server:
    """A gunicorn with an access log, and what it writes."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def send(self, head: str, body: bytes = b"") -> bytes:
        """Send a request with these exact bytes. Return the response, or nothing if the server refuses it."""
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            text = f"{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(text.encode("latin-1") + body)
            received = b""
            with suppress(ConnectionError):
                while chunk := connection.recv(2**16):
                    received += chunk
        return received

    def lines(self) -> list[str]:
        return self.log.read_text("utf-8").splitlines()


@contextmanager
def serving(data: Path, **env: str) -> Iterator[Server]:
    assert manage(data, "migrate").returncode == 0
    (data / "static").mkdir()
    port, log = free_port(), data / "web.log"
    command = [sys.executable, "-m", "gunicorn", "--config", "catalogmatch/web/gunicorn_conf.py", "--workers", "1",
               "--access-logfile", "-", "--bind", f"127.0.0.1:{port}"]  # fmt: skip
    with log.open("wb") as target:
        process = subprocess.Popen(
            command, env=environment(data, DJANGO_DEBUG="0", DJANGO_SECRET_KEY="x" * 50, **env), cwd=REPO,
            stdout=target, stderr=target,
        )  # fmt: skip
    server = Server(port, log)

    def responds() -> bool:
        with suppress(OSError):
            return b" 200 " in server.send("GET /healthz HTTP/1.1")
        return False

    try:
        wait_until(responds, 60, "the web server responds")
        yield server
    finally:
        process.terminate()
        process.wait(60)


def attack(server: Server, token: str) -> None:
    """Send forged lines in the path, the query, headers, the user name, an uploaded file's name and its content."""
    for trick in TRICKS:
        encoded = quote(f"x{trick}{FORGED}", errors="surrogatepass")
        server.send(f"GET /{encoded} HTTP/1.1")
        server.send(f"GET /api/products?search={encoded} HTTP/1.1\r\nAuthorization: Token {token}")
        server.send(f"GET /media/{encoded} HTTP/1.1\r\nAuthorization: Token {token}")
        if trick.isascii() or trick in ("\x85", "\x9b2K"):
            header = f"x{trick}{FORGED}"
            server.send(f"GET /healthz HTTP/1.1\r\nX-Request-ID: {header}\r\nUser-Agent: {header}\r\nReferer: {header}")
            basic = base64.b64encode(f"{header}:password".encode("latin-1")).decode()
            server.send(f"GET /api/queue HTTP/1.1\r\nAuthorization: Basic {basic}")
        form = f"username={encoded}&password=wrong".encode()
        server.send("POST /admin/login/ HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", form)
    for name in ("x\r\nforged.jpg", "x\x1b[2Kforged.jpg", "x\u2028forged.jpg", "x\u202eforged.jpg"):
        for data in (jpeg(1), b"no image"):
            body = encode_multipart(BOUNDARY, {"image": SimpleUploadedFile("NAME", data)})
            body = body.replace(b"NAME", quote(name).encode() if "\n" in name else name.encode())
            kind = f"multipart/form-data; boundary={BOUNDARY}"
            head = f"POST /api/products/upload?wait=0 HTTP/1.1\r\nAuthorization: Token {token}\r\nContent-Type: {kind}"
            assert b"HTTP/1.1 " in server.send(head, body)


def test_requests_forge_no_line_in_the_plain_log(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        token = manage(tmp_path, "create_token", "ada", "--role", "uploader").stdout.strip()
        attack(server, token)
    lines = server.lines()
    access, own = r"127\.0\.0\.1 - \S+.* \[", r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \["
    whole = re.compile(rf"{LINE.pattern}|{access}|{own}|  \| ")
    assert [line for line in lines if not whole.match(line)] == []
    assert all(line.isprintable() for line in lines)
    # Everything above was really logged: by the request log and by the access log, in one line each.
    assert sum(FORGED in line for line in lines if LINE.match(line)) > len(TRICKS)
    assert sum(quote(FORGED) in line for line in lines if "HTTP/1.1" in line) > len(TRICKS)
    assert any("\\x1b[2K" in line for line in lines if "HTTP/1.1" in line), "a header in the access log"


def test_requests_forge_no_line_in_the_json_log(tmp_path: Path) -> None:
    with serving(tmp_path, CATALOGMATCH_LOG_JSON="1") as server:
        token = manage(tmp_path, "create_token", "ada", "--role", "uploader").stdout.strip()
        attack(server, token)
    lines = server.lines()
    assert all(line.isprintable() for line in lines)
    parsed = [json.loads(line) for line in lines if line.startswith("{")]
    assert not any("forged" in line["logger"] for line in parsed)
    assert {f"/x{end}{FORGED}" for end in ENDS} <= {line.get("path") for line in parsed}


@pytest.mark.parametrize("name", ["x\nDone: 9 products added.jpg", "x\x1b[2K.jpg", "x\u202egpj.jpg", b"x\xff\n.jpg"])
def test_file_names_forge_no_line_of_a_command(tmp_path: Path, name: str | bytes) -> None:
    folder, data = tmp_path / "images", tmp_path / "data"
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(b"no image")
    (folder / "good.jpg").write_bytes(jpeg(1))
    assert manage(data, "migrate").returncode == 0
    ran = manage(data, "import_products", str(folder))
    assert ran.returncode == 3
    lines = re.sub(r"\rImporting:[^\r\n]*|\rEmbedding:[^\r\n]*|\rMatching:[^\r\n]*", "", ran.stderr).splitlines()
    assert all(line.isprintable() for line in lines if "no image" in line or "row" in line)
    assert not any(line.startswith("Done: 9") for line in ran.stdout.splitlines() + ran.stderr.splitlines())
    assert "\x1b[2K" not in ran.stderr
    assert "\u202e" not in ran.stderr
    # A file of such a name in the data folder.
    shard = data / "media" / "pictures" / "ab"
    shard.mkdir(parents=True, exist_ok=True)
    (shard / os.fsdecode(name)).write_bytes(b"orphan")
    found = manage(data, "verify")
    assert "UnicodeEncodeError" not in found.stderr
    assert all(line.isprintable() for line in found.stdout.split("\n"))


def test_gunicorns_lines_are_escaped() -> None:
    line = EscapingFormatter("%(message)s").format(record("GET /%s", f"\n{FORGED}"))
    assert line == f"GET /\\n{FORGED}"
