"""Damage the database of an installation in many ways, and see what commands, pages, the API and tasks say.

Run as a program on an installation with rows. Prints the findings as JSON.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any


def header(path: Path, _rng: random.Random) -> None:
    write_at(path, 0, b"x" * 100)


def half(path: Path, _rng: random.Random) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path, _rng: random.Random) -> None:
    os.truncate(path, 0)


def text(path: Path, _rng: random.Random) -> None:
    path.write_text("sku,name\nA-1,Mug\n" * 1000)


def unreadable(path: Path, _rng: random.Random) -> None:
    """Put a folder in its place, since root can read every file."""
    path.unlink()
    path.mkdir()


def damaged_log(path: Path, _rng: random.Random) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(os.urandom(50_000))


def flips(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 20, 500])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    way.__name__: way for way in (header, half, empty, text, unreadable, damaged_log, flips)
}
URLS = ("/api/products", "/api/matches", "/admin/", "/admin/products/product/", "/readyz", "/healthz")


def write_at(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def main() -> None:
    """Take the folder of the installation and the number of times that bits are flipped."""
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client

    from catalogmatch.accounts.tokens import issue_token

    # Static files are not collected for the tests, so pages use their names in the source.
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    os.umask(0o077)  # or `check` warns about files that others can read
    path = Path(connection.settings_dict["NAME"])
    user = User.objects.filter(is_superuser=True).first() or User.objects.create_superuser("root")
    token = issue_token(user)
    client = Client(raise_request_exception=False, headers={"Authorization": f"Token {token}"}, SERVER_NAME="127.0.0.1")
    client.force_login(user)
    connection.close()
    intact = path.read_bytes()
    for way, number in [*((way, 0) for way in WAYS), *(("flips", number) for number in range(1, int(sys.argv[1])))]:
        for leftover in path.parent.glob(f"{path.name}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        path.write_bytes(intact)
        WAYS[way](path, random.Random(number))
        found: dict[str, Any] = {command: run(command) for command in ("verify", "doctor", "check", "reindex")}
        for url in URLS:
            response = client.get(url)
            found[url] = (response.status_code, response.content[:300].decode(errors="replace"))
            connection.close()
        found["worker"] = run_task()
        connection.close()
        sys.stdout.write(json.dumps({"way": f"{way} {number}", **found}) + "\n")


def run(command: str) -> tuple[int, str]:
    """Run a command as the shell does. Return its exit code and output."""
    from django.db import connection

    import manage

    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["manage.py", command]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            manage.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            err.write(error.code if isinstance(error.code, str) else "")
        except Exception as error:  # noqa: BLE001  # the shell would show its traceback
            code = 99
            err.write("".join(traceback.format_exception(error)))
    connection.close()
    return code, out.getvalue() + err.getvalue()


def run_task() -> str:
    """Run a task of the worker. Return its error."""
    from products.tasks import sweep

    return repr(sweep.apply().result)


if __name__ == "__main__":
    main()
