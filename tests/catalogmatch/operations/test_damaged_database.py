"""A damaged SQLite file: each command says so in one sentence, and the web server answers 503."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.helpers.installations import REPO, environment, manage
from tests.helpers.redis_server import free_port

BACKUP = Path(__file__).parent / "fixtures" / "backup-of-1.0.0.zip"
# Damage that every read of the database shows. A single flipped bit may be where only some rows are.
TOTAL = ("header 0", "half 0", "text 0", "unreadable 0")

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL checks its own files")


def find(tmp_path: Path, flips: int) -> dict[str, dict[str, Any]]:
    """Return what the parts of an installation say, by kind of damage."""
    with zipfile.ZipFile(BACKUP) as archive:
        archive.extractall(tmp_path / "backup")
    folder = tmp_path / "installation"
    for arguments in (("restore", str(tmp_path / "backup")), ("migrate", "-v0"), ("verify", "--fix")):
        ended = manage(folder, *arguments)
        assert ended.returncode == 0, ended.stderr
    program = [sys.executable, "-m", "tests.helpers.damaged_database", str(flips)]
    ended = subprocess.run(program, cwd=REPO, env=environment(folder), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {line["way"]: line for line in map(json.loads, ended.stdout.splitlines())}


def check(findings: dict[str, dict[str, Any]]) -> None:
    for way, found in findings.items():
        for command in ("verify", "doctor", "check", "reindex"):
            code, output = found[command]
            assert code in (0, 1, 3), (way, command, output)
            assert "Traceback" not in output, (way, command, output)
        for url in ("/api/products", "/api/matches", "/admin/", "/admin/products/product/", "/readyz"):
            status, content = found[url]
            assert status in (200, 302, 401, 403, 503), (way, url, status, content)
        assert found["/healthz"][0] == 200
    for way in TOTAL:
        found = findings[way]
        code, output = found["verify"]
        assert code == 1, output
        assert output.strip().count("\n") == 0, output
        assert "DATABASE_URL" in output if way == "unreadable 0" else "is damaged" in output
        assert found["doctor"][0] == 1
        assert "FAIL  database" in found["doctor"][1]
        assert found["reindex"][0] == 1
        assert found["/api/products"][0] == 503
        assert json.loads(found["/api/products"][1])["code"] == "database_unavailable"
        assert found["/admin/products/product/"][0] == found["/readyz"][0] == 503
        assert "The database" in found["worker"]
    for command in ("verify", "doctor"):
        code, output = findings["empty 0"][command]
        assert code == 1
        assert "it has no tables, but there are images" in output
    assert findings["damaged_log 0"]["verify"][0] == 0, "SQLite ignores a log that is none"


def test_damaged_database_is_one_sentence_everywhere(tmp_path: Path) -> None:
    check(find(tmp_path, flips=12))


@pytest.mark.faults
def test_two_hundred_flipped_databases_never_show_a_traceback(tmp_path: Path) -> None:
    check(find(tmp_path, flips=200))


def test_runserver_says_that_the_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "catalogmatch.sqlite3").write_text("sku,name\nA-1,Mug\n")
    ended = manage(tmp_path, "runserver", "--skip-checks", str(free_port()))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "is damaged: file is not a database" in ended.stderr
