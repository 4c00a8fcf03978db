"""A web server with the configuration of production."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers.installations import REPO
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port
from tests.helpers.web.raw_http import HEALTHZ, responses


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """Start a web server. Return its port and an uploader's token."""
    folder = tmp_path_factory.mktemp("web")
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
        "CATALOGMATCH_DATA_DIR": str(folder),
        "WEB_CONCURRENCY": "1",
        "PORT": str(free_port()),
    }
    manage = [sys.executable, "manage.py"]
    for command in (["migrate", "-v", "0"], ["collectstatic", "--noinput", "-v", "0"]):
        subprocess.run([*manage, *command], env=env, cwd=REPO, check=True)
    made = subprocess.run(
        [*manage, "create_token", "uploader", "--role", "uploader"],
        env=env, cwd=REPO, check=True, capture_output=True, text=True,
    )  # fmt: skip
    web = [sys.executable, "-m", "gunicorn", "--config", "catalogmatch/web/gunicorn_conf.py"]
    process = subprocess.Popen(web, env=env, cwd=REPO, stderr=subprocess.DEVNULL)
    port = int(env["PORT"])
    try:
        wait_until(lambda: responses(port, HEALTHZ) != b"", 30, "the web server responds")
        yield port, made.stdout.strip()
    finally:
        process.terminate()
        process.wait(30)
