"""The entrypoint of the image waits for the database, and one process at a time migrates."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests import postgres
from tests.helpers.installations import REPO
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port

pytestmark = pytest.mark.timeout(300)

ENTRYPOINT = str(REPO / "deploy/entrypoint.sh")
BIN = str(Path(sys.executable).parent)
NO_SERVER = "postgres://tester:tester@127.0.0.1:{port}/catalogmatch"


def environment(folder: Path, **env: str) -> dict[str, str]:
    """Return the variables of a container whose data folder is in ``folder``, and no others."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "CATALOGMATCH_ENV_FILE": os.devnull,
        "CATALOGMATCH_DATA_DIR": str(folder / "data"),
        "DJANGO_SECRET_KEY": "of the entrypoint",
        **env,
    }


def start(folder: Path, *command: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["sh", ENTRYPOINT, *command],
        env=environment(folder, **env),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *command: str, **env: str) -> tuple[int, str]:
    process = start(folder, *command, **env)
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def test_containers_that_start_together_migrate_once(tmp_path: Path) -> None:
    together = [start(tmp_path, program, "--version") for program in ("celery", "gunicorn")]
    outputs = [process.communicate(timeout=250)[0] for process in together]
    assert [process.returncode for process in together] == [0, 0], outputs
    assert sorted("Applying products.0001" in output for output in outputs) == [False, True]
    assert sorted("No migrations to apply" in output for output in outputs) == [False, True]
    # Then each becomes its command.
    assert "gunicorn (version" in outputs[1]
    with closing(sqlite3.connect(tmp_path / "data/catalogmatch.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM products").fetchone() == (0,)
    assert (tmp_path / "data/static/staticfiles.json").exists()
    assert (tmp_path / "data/prepare.lock").stat().st_mode & 0o777 == 0o600


def test_other_commands_start_at_once(tmp_path: Path) -> None:
    assert run(tmp_path, "echo", "two words", DJANGO_SECRET_KEY="") == (0, "two words\n")
    assert not (tmp_path / "data").exists()


def test_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "exit 7")[0] == 7


def test_wrong_setting_ends_the_start_at_once(tmp_path: Path) -> None:
    code, output = run(tmp_path, "gunicorn", "--version", DJANGO_SECRET_KEY="")
    assert code == 1
    assert output.startswith("CatalogMatch cannot start: DJANGO_SECRET_KEY is not set.")


def test_database_that_does_not_come_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = NO_SERVER.format(port=free_port())
    code, output = run(tmp_path, "gunicorn", "--version", DATABASE_URL=url, CATALOGMATCH_WAIT_SECONDS="0")
    assert code == 1
    assert output.startswith("The database cannot be used: ")
    assert "Connection refused" in output
    assert "tester:tester" not in output


def test_failed_migration_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data/catalogmatch.sqlite3")) as database:
        database.execute("CREATE TABLE auth_user (id integer)")
        database.commit()
    code, output = run(tmp_path, "celery", "--version")
    assert code == 1
    assert "already exists" in output


@pytest.mark.postgres
def test_start_waits_for_a_database_that_comes_later(tmp_path: Path) -> None:
    postgres.require_server()
    with postgres.server() as database:
        database.stop()
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", ENTRYPOINT, "celery", "--version"],
                env=environment(tmp_path, DATABASE_URL=database.url(), CATALOGMATCH_WAIT_SECONDS="200"),
                stdout=out,
                stderr=out,
            )
        try:
            wait_until(lambda: "Waiting for the database: " in log.read_text(), 60, log.read_text)
            time.sleep(0.5)
            assert process.poll() is None
            database.start()
            assert process.wait(200) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
        assert "Applying matching_pgvector.0001" in log.read_text()
