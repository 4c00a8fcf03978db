"""A complete installation: Redis, a web server and workers as separate processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from tests.helpers.database import InstallationDatabase
from tests.helpers.installations import REPO
from tests.helpers.redis_server import RedisServer, free_port

LEASE_SECONDS = 5  # short, but longer than the start of a worker or a slow batch


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the web server and its duration."""

    status: int
    body: Any
    seconds: float


class Stack:
    """An installation in ``folder`` with its own database, media, Redis and ports.

    The context manager starts it and ends all its processes.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.redis = RedisServer(folder)
        self.database = InstallationDatabase(folder, settings.get("DATABASE_URL", ""))
        self.token = ""
        self._web_port = free_port()
        self.web: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._starting: subprocess.Popen[bytes] | None = None
        self._env = os.environ | {
            "CATALOGMATCH_DATA_DIR": str(folder / "var"),
            "CELERY_BROKER_URL": self.redis.url,
            "CATALOGMATCH_CLAIM_LEASE_SECONDS": str(LEASE_SECONDS),
            "CATALOGMATCH_SWEEP_SECONDS": "1",
            "CLIP_BATCH_SIZE": "32",
            "PYTHONPATH": f"{REPO / 'tests' / 'faults'}:{REPO}",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }

    # --- processes -------------------------------------------------------------------------------

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start Redis and the web server on an empty, migrated database, with a manager's token."""
        self.redis.start()
        self.manage("migrate", "--verbosity", "0")
        script = (
            "from django.contrib.auth.models import User; from catalogmatch.accounts.tokens import issue_token;"
            "from catalogmatch.accounts.roles import give_role;"
            "user = User.objects.create_user('manager'); give_role(user, 'manager');"
            "print(issue_token(user))"
        )
        self.token = self.manage("shell", "--no-imports", "--command", script).strip()
        self.start_web()

    def start_web(self, **env: str) -> float:
        """Start or restart the web server and wait until it responds. Return the seconds."""
        started = time.monotonic()
        bind = f"127.0.0.1:{self._web_port}"
        env = {"WEB_CONCURRENCY": "1"} | env
        self.web = self._run("web", "gunicorn", "--config", "catalogmatch/web/gunicorn_conf.py", "--bind", bind, **env)
        wait_until(lambda: self._is_alive(), 60, "the web server responds")
        return time.monotonic() - started

    def start_worker(self, *, beat: str = "-B", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it accepts tasks. ``beat`` is empty if another process runs the beat."""
        before = self.log("worker").count(" ready.")
        worker = self._starting = self.launch_worker(beat=beat, **env)
        wait_until(lambda: self.log("worker").count(" ready.") > before, 60, "the worker is ready")
        self._starting = None
        return worker

    def launch_worker(self, *, beat: str = "-B", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker without waiting for it."""
        options = ["-n", f"{len(self._workers)}@%h", "--without-mingle", "--loglevel", "info", *filter(None, [beat])]
        worker = self._run(
            "worker", "celery", "-A", "catalogmatch", "worker", "--pool=solo", "-Q", "questions,bulk", *options, **env
        )
        self._workers.append(worker)
        return worker

    def has_workers(self) -> bool:
        """Return whether a worker runs that has finished its start."""
        return any(worker.poll() is None and worker is not self._starting for worker in list(self._workers))

    def start_beat(self) -> subprocess.Popen[bytes]:
        """Start a separate beat, for workers without one."""
        beat = self._run("beat", "celery", "-A", "catalogmatch", "beat", "--loglevel", "info")
        self._workers.append(beat)
        return beat

    def manage(self, *arguments: str, **env: str) -> str:
        """Run a management command to its end. Return its stdout. Raises CalledProcessError."""
        result = self.manage_result(*arguments, **env)
        result.check_returncode()
        return result.stdout

    def manage_result(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end, whatever its exit code."""
        command = [sys.executable, str(REPO / "manage.py"), *arguments]
        return subprocess.run(command, env=self._env | env, cwd=REPO, check=False, capture_output=True, text=True)

    def stop(self, process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal ``how`` to a process, wait for its end, and kill its children."""
        process.send_signal(how)
        try:
            process.wait(60)
        finally:
            self._end(process)

    def stop_workers(self) -> None:
        """Kill every worker that still runs."""
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()

    def close(self) -> None:
        """Kill all processes."""
        self.stop_workers()
        if self.web is not None:
            self._end(self.web)
        self.redis.stop()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def _run(self, name: str, module: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self._env | env, cwd=REPO, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _is_alive(self) -> bool:
        try:
            return self.call("GET", "/healthz").status == 200
        except (OSError, HTTPException):
            return False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._web_port}"

    @property
    def media(self) -> Path:
        return self.folder / "var" / "media"

    # --- API calls -------------------------------------------------------------------------------

    def call(self, method: str, path: str, form: dict[str, Any] | None = None) -> Response:
        """Send a request with the manager's token. ``form`` is sent as multipart."""
        data = encode_multipart(BOUNDARY, form) if form is not None else None
        headers = {"Authorization": f"Token {self.token}", "Content-Type": MULTIPART_CONTENT}
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        started = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, body = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        return Response(status, json.loads(body) if body else None, time.monotonic() - started)

    def upload(self, images: Iterable[bytes], wait: float = 0, **fields: Any) -> Response:
        """Add a product with these images."""
        files = [SimpleUploadedFile(f"{number}.jpg", data) for number, data in enumerate(images)]
        return self.call("POST", f"/api/products/upload?wait={wait}", {"image": files, **fields})

    def match_image(self, image: bytes, wait: float) -> Response:
        """Find matches for a query image, which is not stored."""
        return self.call("POST", f"/api/match?wait={wait}", {"image": SimpleUploadedFile("query.jpg", image)})

    # --- database --------------------------------------------------------------------------------

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read rows of the installation's database. Parameters in SQL are ``?``."""
        return self.database.rows(sql, *parameters)

    def execute(self, sql: str, *parameters: Any) -> None:
        """Change rows without the program, to imitate lost messages and crashed machines."""
        self.database.execute(sql, *parameters)

    def states(self, product_id: int) -> Counter[str]:
        """Return the number of a product's images by state."""
        return Counter(
            state for (state,) in self.rows("SELECT state FROM product_images WHERE product_id = ?", product_id)
        )

    def claimed(self) -> int:
        """Return the number of claimed images."""
        return int(self.rows("SELECT count(*) FROM product_images WHERE state = 'claimed'")[0][0])

    def features(self, product_id: int) -> int:
        """Return the number of the product's features."""
        return int(self.rows("SELECT count(*) FROM features WHERE product_id = ?", product_id)[0][0])

    def wait_for_states(self, product_id: int, seconds: float = 90, **expected: int) -> None:
        """Wait until the product's images have exactly these states, such as ``ready=31, failed=1``."""
        wait_until(
            lambda: self.states(product_id) == Counter(expected),
            seconds,
            lambda: f"images are {expected}, they are {self.states(product_id)}\n{self.log('worker')[-3000:]}",
        )


def wait_until(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait for ``condition``. Raises AssertionError with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)
