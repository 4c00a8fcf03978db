"""Run an installation from docs/deployment.md and its units. Only ports and paths differ."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import environ
import pytest

from tests.documentation.blocks import the_block
from tests.helpers.installations import REPO
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port, server_binary

PAGE = "docs/deployment.md"
BIN = Path(sys.executable).parent
KEY = "kH3-only-for-this-test-0123456789-abcdefghijklmnopq"
SECRETS = {
    '<python -c "import secrets; print(secrets.token_urlsafe(50))">': KEY,
    "<the password of Redis>": "the-password-of-redis",
    "<another random value>": "the-token-of-prometheus",
}


class Unit(configparser.RawConfigParser):
    """A systemd unit."""

    def __init__(self, text: str) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#",), interpolation=None, strict=True)
        self.optionxform = str  # type: ignore[method-assign,assignment]
        self.read_string(text)

    @property
    def service(self) -> configparser.SectionProxy:
        return self["Service"]


def unit_text(name: str) -> str:
    return (REPO / f"deploy/systemd/catalogmatch-{name}.service").read_text("utf-8")


def nginx_binary() -> str:
    """Return the path of nginx. Without it, skip the test, or fail in CI."""
    if found := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return found
    missing = "nginx is not installed"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class Documented:
    """The documented installation in ``folder``, without root and systemd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.redis_port = free_port(), free_port()
        self.data, self.run = folder / "data", folder / "run"
        self.env_file = folder / "catalogmatch.env"
        self.env_file.write_text(self.filled(the_block(PAGE, "# /etc/catalogmatch.env")) + f"PORT={self.port}\n")
        self.env_file.chmod(0o600)
        self._processes: list[subprocess.Popen[bytes]] = []
        # As under systemd, nothing of the tests' own environment. HOME is closed by ProtectHome.
        self.bare = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/nonexistent", "HF_HUB_OFFLINE": "1"}

    def filled(self, text: str) -> str:
        """Return a text of the documentation with this installation's paths, ports and secrets."""
        changes = SECRETS | {
            "/opt/catalogmatch/.venv/bin": str(BIN),
            "/opt/catalogmatch": str(REPO),
            "/etc/catalogmatch.env": str(self.env_file),
            "/var/lib/catalogmatch": str(self.data),
            "/run/catalogmatch": str(self.run),
            "127.0.0.1:6379": f"127.0.0.1:{self.redis_port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
        }
        for documented, ours in changes.items():
            text = text.replace(documented, ours)
        return text

    @property
    def settings(self) -> dict[str, str]:
        return dict(
            line.split("=", 1) for line in self.env_file.read_text().splitlines() if "=" in line[1:] and line[0] != "#"
        )

    def start(
        self, name: str, command: list[str], env: dict[str, str] | None = None, cwd: Path = REPO
    ) -> subprocess.Popen[bytes]:
        with self.log_file(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=self.bare | (env or {}),
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        self._processes.append(process)
        return process

    def start_redis(self) -> None:
        config = self.folder / "redis.conf"
        config.write_text(
            self.filled(the_block(PAGE, "# /etc/redis/redis.conf"))
            + f"port {self.redis_port}\nbind 127.0.0.1\ndir {self.folder}\n"
        )
        self.start("redis", [server_binary(), str(config)])
        wait_until(lambda: "ready to accept connections" in self.log("redis").lower(), 10, "Redis is ready")

    def start_unit(self, name: str) -> subprocess.Popen[bytes]:
        """Do what systemd does with a unit, as far as a process without rights can."""
        service = Unit(self.filled(unit_text(name))).service
        assert service["EnvironmentFile"] == str(self.env_file)
        if "RuntimeDirectory" in service:
            assert f"/run/{service['RuntimeDirectory']}" == "/run/catalogmatch"
            self.run.mkdir(exist_ok=True)
        return self.start(name, shlex.split(service["ExecStart"]), self.settings, Path(service["WorkingDirectory"]))

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the documentation says, with CATALOGMATCH_ENV_FILE."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=REPO, env=self.command_env(), capture_output=True, text=True
        )

    def command_env(self) -> dict[str, str]:
        return self.bare | {"CATALOGMATCH_ENV_FILE": str(self.env_file)}

    def status(self, path: str, **headers: str) -> int:
        return self.get(path, **headers)[0]

    def get(self, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
        """Ask the web process itself. Names of headers have ``_`` for ``-``. Redirects are not followed."""
        request = urllib.request.Request(f"http://{host}:{self.port}{path}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        return self.log_file(name).read_text() if self.log_file(name).exists() else ""

    def close(self) -> None:
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@contextmanager
def running(folder: Path) -> Iterator[Documented]:
    """Install and start everything, then stop it."""
    site = Documented(folder)
    try:
        site.start_redis()
        for arguments in (["migrate", "--verbosity", "0"], ["collectstatic", "--noinput", "--verbosity", "0"]):
            done = site.manage(*arguments)
            assert done.returncode == 0, done.stderr
        site.start_unit("web")
        site.start_unit("worker")
        wait_until(lambda: _answers(site), 60, lambda: f"the web process answers\n{site.log('web')}")
        wait_until(lambda: " ready." in site.log("worker"), 60, lambda: f"the worker is ready\n{site.log('worker')}")
        yield site
    finally:
        site.close()


def _answers(site: Documented) -> bool:
    try:
        site.status("/healthz")
    except OSError:
        return False
    return True


def environment(text: str) -> dict[str, str]:
    """Read an environment file as CatalogMatch does."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        environ.Env.read_env(text)
        return dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)
