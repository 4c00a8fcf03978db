"""The production settings of docs/deployment.md pass all checks, and each missing one stops the start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.installations import REPO

KEY = "kH3-only-for-this-test-0123456789-abcdefghijklmnopqrstuvwxyz"


def documented() -> dict[str, str]:
    """Return the settings of the environment file in docs/deployment.md, with its placeholders filled."""
    text = (REPO / "docs" / "deployment.md").read_text()
    [block] = re.findall(r"```ini\n# /etc/catalogmatch\.env.*?\n(.*?)```", text, re.DOTALL)
    settings = dict(line.split("=", 1) for line in block.splitlines())
    return settings | {"DJANGO_SECRET_KEY": KEY, "CATALOGMATCH_METRICS_TOKEN": "a token"}


def check(data: Path, changes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py check --deploy`` with the production settings and these changes."""
    env = os.environ | documented() | {"CATALOGMATCH_DATA_DIR": str(data)} | changes
    env.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)  # needed by the browser tests, but rejected by the check
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)


def test_documented_settings_pass_djangos_deployment_check(tmp_path: Path) -> None:
    done = check(tmp_path, {})
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (0 silenced).\n"), done.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"DJANGO_DEBUG": "1"}, "DJANGO_DEBUG is on"),
        ({"DJANGO_SECRET_KEY": ""}, "DJANGO_SECRET_KEY is not set"),
        ({"DJANGO_SECRET_KEY": "short"}, "DJANGO_SECRET_KEY is shorter"),
        ({"CELERY_BROKER_URL": ""}, "CELERY_BROKER_URL is not set"),
        ({"CELERY_BROKER_URL": "redis://:pass/word@127.0.0.1:6379/0"}, "CELERY_BROKER_URL is no address"),
        ({"DJANGO_HTTPS": "0"}, "DJANGO_HTTPS is off"),
        ({"DJANGO_ALLOWED_HOSTS": "*"}, "DJANGO_ALLOWED_HOSTS allows"),
    ],
)
def test_production_refuses_to_start_with_wrong_settings(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    done = check(tmp_path, changes)
    assert done.returncode != 0
    assert "ImproperlyConfigured" in done.stderr
    assert reason in done.stderr
    assert "pass/" not in done.stderr.partition("ImproperlyConfigured")[2]


def test_debug_mode_starts_without_a_broker(tmp_path: Path) -> None:
    assert check(tmp_path, {"CATALOGMATCH_PRODUCTION": "0", "CELERY_BROKER_URL": ""}).returncode == 0
