"""A CatalogMatch installation for a benchmark: a data folder of its own, a web server and workers."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import free_port

REPO = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
SETTINGS_PREFIXES = ("DJANGO_", "CLIP_", "CELERY_", "CATALOGMATCH_", "DATABASE_URL")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return an environment with the default settings and data in ``folder``. ``.env`` is not read.

    Without CLIP_MODEL in ``settings`` there are no CLIP weights, and legacy features are used.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIXES)}
    defaults = {
        "CATALOGMATCH_ENV_FILE": os.devnull,
        "CATALOGMATCH_DATA_DIR": str(folder),
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        "CLIP_CACHE_DIR": str(folder / "no-models"),
    }
    return env | defaults | settings


def manage(env: dict[str, str], *arguments: str) -> str:
    """Run a management command and return its stdout. Raises CalledProcessError."""
    command = [sys.executable, str(REPO / "manage.py"), *arguments]
    return subprocess.run(command, env=env, cwd=REPO, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def web_server(env: dict[str, str], workers: int = 1) -> Iterator[tuple[str, str]]:
    """Migrate, run the web server with so many processes, and yield its URL and an uploader's token."""
    address = f"127.0.0.1:{free_port()}"
    manage(env, "migrate", "--verbosity", "0")
    token = manage(env, "create_token", "benchmark", "--role", "uploader").strip()
    options = ["--config", "catalogmatch/web/gunicorn_conf.py", "--bind", address, "--workers", str(workers)]
    command = [sys.executable, "-m", "gunicorn", *options]
    process = subprocess.Popen(command, cwd=REPO, env=env, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_alive(address):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("The web server did not start.")
            time.sleep(0.05)
        yield f"http://{address}", token
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def celery_worker(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker with beat, as the documentation starts it. It may need some seconds before it takes tasks."""
    command = [sys.executable, "-m", "celery", "-A", "catalogmatch", "worker", "--pool=solo", "-Q", "questions,bulk"]
    process = subprocess.Popen(
        [*command, "-B", "--without-mingle"],
        cwd=REPO,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with its beat and its preprocessing processes
        process.wait()


def multipart_form(image: bytes) -> tuple[bytes, str]:
    """Return the body and the content type of a form with one image."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="p.jpg"\r\n\r\n'.encode()
    return head + image + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _is_alive(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=5):
            return True
    except OSError:  # not listening yet
        return False
