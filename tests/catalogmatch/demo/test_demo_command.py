"""The demo command: serves a catalogue, can run again, and rejects any other database."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest

from catalogmatch.demo.catalogue import IMAGES, demo_products
from products.images import intake
from products.images.cleaning import Upload
from tests.helpers.commands import run
from tests.helpers.installations import REPO, environment, manage
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port

SERVING = 90


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "var"


class Served:
    """The demo, started as by ``make demo``."""

    def __init__(self, data: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.said = data.parent / "said.txt"
        env = environment(data, PORT=str(port), PYTHONUNBUFFERED="1")
        with self.said.open("wb") as out:
            command = [sys.executable, "manage.py", "demo"]
            self.process = subprocess.Popen(command, cwd=REPO, env=env, stdout=out, stderr=subprocess.DEVNULL)
        wait_until(self.is_serving, SERVING, lambda: f"the demo is served: {self.said.read_text()}")

    def is_serving(self) -> bool:
        assert self.process.poll() is None, self.said.read_text()
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as response:
            return response.status, response.read().decode(errors="replace")

    def word(self, before: str) -> str:
        found = re.search(rf"{before} +(\S+)", self.said.read_text())
        assert found, self.said.read_text()
        return found[1]


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    demo = Served(data)
    yield demo
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0


@pytest.mark.timeout(240)
def test_a_new_user_signs_in_and_sees_products_and_matches(served):
    _, body = served.get("/api/products", Authorization=f"Token {served.word('Token')}")
    assert json.loads(body)["count"] >= 80
    _, body = served.get("/api/matches", Authorization=f"Token {served.word('Token')}")
    assert json.loads(body)["count"] >= 10
    _, body = served.get("/api/gpu/status", Authorization=f"Token {served.word('Token')}")
    assert len(json.loads(body)["workers"]) == 1  # the web server, which embeds its own uploads

    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with browser.open(f"{served.url}/admin/login/") as response:
        page = response.read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    form = {"username": "admin", "password": "demo", "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    with browser.open(f"{served.url}/admin/login/", urlencode(form).encode()) as response:
        assert response.url == f"{served.url}/admin/"
    styles = re.findall(r'href="(/static/[^"]+\.css)"', page)
    assert styles
    assert {served.get(style)[0] for style in styles} == {200}


@pytest.mark.timeout(240)
def test_second_run_changes_no_product(data, served):
    token = f"Token {served.word('Token')}"
    _, body = served.get("/api/products", Authorization=token)
    assert json.loads(body)["count"] == len(demo_products())
    ran = manage(data, "demo", "--no-serve")
    assert ran.returncode == 0
    assert "admin / demo" in ran.stdout
    _, again = served.get("/api/products", Authorization=token)
    assert json.loads(again) == json.loads(body)


@pytest.mark.django_db
def test_database_with_another_catalogue_is_rejected(settings, tmp_path):
    settings.STATIC_ROOT = tmp_path / "static"
    intake.add_product([Upload((IMAGES / "NEW-001-1.webp").read_bytes())], sku="MINE")
    ran = run("demo", "--no-serve")
    assert ran.code == 1
    assert "CATALOGMATCH_DATA_DIR" in ran.err


@pytest.mark.django_db
def test_invalid_port_is_rejected(monkeypatch):
    monkeypatch.setitem(os.environ, "PORT", "eight")
    assert run("demo").code == 1
