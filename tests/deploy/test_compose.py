"""The compose files start the processes of docs/deployment.md with settings that are fit for production."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documentation.blocks import the_block
from tests.helpers.installations import REPO

SECRETS = {"POSTGRES_PASSWORD": "p" * 64, "REDIS_PASSWORD": "r" * 64}
DEPLOYMENT = "docs/deployment.md"


def services(name: str = "compose.yaml") -> dict[str, dict[str, Any]]:
    """Return the services of a compose file with its variables filled, as compose does."""

    def fill(match: re.Match[str]) -> str:
        return SECRETS.get(match[1], match[2] or "")

    text = re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", fill, (REPO / name).read_text("utf-8"))
    return dict(yaml.safe_load(text)["services"])


PROGRAM = [("compose.yaml", name) for name in ("web", "worker", "beat")] + [("compose.small.yaml", "catalogmatch")]


@pytest.mark.parametrize(("file", "name"), PROGRAM)
def test_program_runs_without_rights_on_a_read_only_root(file: str, name: str) -> None:
    service = services(file)[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == ["data:/var/lib/catalogmatch"]
    assert "user" not in service  # the image's own, which is not root
    assert re.search(r"^USER [1-9]\d+$", (REPO / "Containerfile").read_text(), re.MULTILINE)


def test_only_caddy_is_open_to_the_network() -> None:
    ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert ports == {"caddy": ["80:80", "443:443", "443:443/udp"]}
    assert services("compose.small.yaml")["catalogmatch"]["ports"] == ["127.0.0.1:8000:8000"]


def test_containers_run_the_documented_commands() -> None:
    text = (REPO / DEPLOYMENT).read_text("utf-8")
    commands = dict(re.findall(r"^\| (web|worker|beat) \| .*?`((?:gunicorn|celery)[^`]*)`", text, re.MULTILINE))
    for name in ("worker", "beat"):
        assert services()[name]["command"] == commands[name]
    [image] = re.findall(r"^CMD \[(.*)\]$", (REPO / "Containerfile").read_text(), re.MULTILINE)
    assert image.replace('"', "").replace(",", "") == commands["web"]
    assert "command" not in services()["web"] | services("compose.small.yaml")["catalogmatch"]


def test_only_the_worker_has_the_libraries_of_models() -> None:
    variants = {name: services()[name]["build"]["args"]["VARIANT"] for name in ("web", "worker", "beat")}
    assert variants == {"web": "web", "worker": "cpu", "beat": "web"}
    assert services("compose.cuda.yaml")["worker"]["build"]["args"] == {"VARIANT": "cuda"}
    for service in services().values():
        if "build" in service:
            assert service["image"] == f"catalogmatch:{service['build']['args']['VARIANT']}"


def test_redis_has_the_documented_options() -> None:
    documented = [shlex.split(line) for line in the_block(DEPLOYMENT, "# /etc/redis/redis.conf").splitlines()[1:]]
    words = shlex.split(services()["redis"]["command"])
    assert words.pop(0) == "redis-server"
    options = dict(zip(words[::2], words[1::2], strict=True))
    expected = {f"--{name}": " ".join(value) for name, *value in documented}
    assert options == expected | {"--requirepass": SECRETS["REDIS_PASSWORD"]}


@pytest.mark.parametrize("name", ["web", "worker", "beat"])
def test_settings_pass_djangos_deployment_check(name: str, tmp_path: Path) -> None:
    env = services()[name]["environment"] | {
        "CATALOGMATCH_ENV_FILE": "/dev/null",
        "CATALOGMATCH_DATA_DIR": str(tmp_path / "data"),
        "DJANGO_SECRET_KEY": "0123456789abcdef" * 4,
    }
    env.pop("PROMETHEUS_MULTIPROC_DIR", None)  # a folder of the container
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (0 silenced).\n"), done.stderr


def test_each_secret_is_asked_for_and_written() -> None:
    text = (REPO / "compose.yaml").read_text("utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?run sh deploy/secrets.sh first\}", text))
    written = (REPO / "deploy/secrets.sh").read_text("utf-8")
    assert needed == set(SECRETS)
    assert all(name in written for name in needed)


def test_image_gets_no_data_secrets_or_tests() -> None:
    lines = (REPO / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[1] == "*"
    wanted = {line[1:] for line in lines if line.startswith("!")}
    assert all((REPO / name).exists() for name in wanted)
    assert wanted.isdisjoint({"var", ".env", ".git", "tests", "benchmarks", "docs"})
