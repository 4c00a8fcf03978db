"""The production set-up of docs/deployment.md, started from its own blocks."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from tests.documentation.blocks import the_block
from tests.documentation.documented import PAGE, Documented, Unit, environment, nginx_binary, unit_text
from tests.helpers.installations import REPO
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

NGINX = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "203.0.113.9", "Host": "match.example.com"}
UNITS = ("web", "worker")


def token_of(site: Documented, role: str = "uploader") -> str:
    done = site.manage("create_token", f"a-{role}", "--role", role)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3:8000", "match.example.com", "other.example", "not a host", "", "[::1]"]
)
def test_probes_answer_whatever_the_host(site: Documented, host: str) -> None:
    assert site.get("/healthz", Host=host) == (200, '{"status": "alive"}')
    assert site.get("/readyz", Host=host) == (200, '{"status": "ready"}')
    token = site.settings["CATALOGMATCH_METRICS_TOKEN"]
    assert site.status("/metrics", Host=host, Authorization=f"Bearer {token}") == 200
    assert site.status("/metrics", Host=host) == 401
    assert site.status("/metrics", Host=host, Authorization="Bearer wrong") == 401


def test_probes_answer_without_a_host(site: Documented) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/api/products", "/healthz/", "//healthz", "/metrics/x"])
def test_only_probes_answer_without_the_name_of_the_site(site: Documented, path: str) -> None:
    assert site.status(path) in (301, 400, 404)
    assert site.status(path, X_Forwarded_Proto="https") in (400, 404)


def test_site_answers_to_nginx_and_redirects_to_https(site: Documented) -> None:
    assert site.status("/admin/login/", **NGINX) == 200
    assert site.status("/admin/login/", Host="match.example.com") == 301
    assert site.status("/api/products", **NGINX) == 401
    assert site.status("/admin/login/", **NGINX | {"Host": "evil.example"}) == 400


def curl(site: Documented, *arguments: str) -> dict[str, object]:
    headers = [part for name, value in NGINX.items() for part in ("-H", f"{name.replace('_', '-')}: {value}")]
    command = ["curl", "-sS", *headers, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_uploaded_image_is_embedded_by_the_worker(site: Documented, tmp_path: Path) -> None:
    token = token_of(site)
    (tmp_path / "mug.jpg").write_bytes(jpeg(1))
    base = f"http://127.0.0.1:{site.port}/api"
    who = ("-H", f"Authorization: Token {token}")
    uploaded = curl(site, *who, "-F", f"image=@{tmp_path / 'mug.jpg'}", f"{base}/products/upload?wait=50")
    # Web processes embed nothing if there is a broker.
    assert uploaded["status"] == "success", site.log("worker")
    assert curl(site, *who, "-F", f"image=@{tmp_path / 'mug.jpg'}", f"{base}/match?wait=30")["matches"] == []


def test_environment_file_means_the_same_to_systemd_and_to_commands(site: Documented) -> None:
    assert environment(str(site.env_file)) == site.settings


def test_doctor_and_check_find_no_fault(site: Documented) -> None:
    done = site.manage("doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"broker\s+OK|OK\s+broker", done.stdout), done.stdout
    checked = site.manage("check", "--deploy", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr


def test_everything_that_is_kept_is_in_the_data_folder(site: Documented) -> None:
    """The units protect all other folders. ``ProtectHome`` hides the home folder."""
    for name in UNITS:
        service = Unit(site.filled(unit_text(name))).service
        assert (service["ReadWritePaths"], service["ProtectHome"]) == (str(site.data), "yes")
    for folder in ("CATALOGMATCH_DATA_DIR", "CLIP_CACHE_DIR", "HF_HOME"):
        assert Path(site.settings[folder]).is_relative_to(site.data)


@pytest.mark.parametrize("name", UNITS)
def test_unit_restarts_for_ever(name: str) -> None:
    service = Unit(unit_text(name)).service
    assert service["Restart"] == "always"
    # systemd gives up after five starts within ten seconds.
    assert int(service["RestartSec"]) * 5 > 10


def test_units_start_the_commands_of_the_table() -> None:
    text = (REPO / PAGE).read_text("utf-8")
    commands = dict(re.findall(r"^\| (web|worker|beat) \| .*?`((?:gunicorn|celery)[^`]*)`", text, re.MULTILINE))
    for name in UNITS:
        started = Unit(unit_text(name)).service["ExecStart"]
        assert started.removeprefix("/opt/catalogmatch/.venv/bin/").removesuffix(" -B") == commands[name]


def messages_sent(site: Documented) -> int:
    with redis.Redis.from_url(site.settings["CELERY_BROKER_URL"]) as server:
        return int(server.info("commandstats")["cmdstat_lpush"]["calls"])


def test_separate_beat_starts(site: Documented) -> None:
    text = (REPO / PAGE).read_text("utf-8")
    [command] = re.findall(r"^\| beat \| .*?`(celery [^`]*)`", text, re.MULTILINE)
    before = messages_sent(site)
    beat = site.start("beat", shlex.split(command), site.settings | {"CATALOGMATCH_SWEEP_SECONDS": "1"})
    # The worker's own beat sends a few a minute.
    wait_until(lambda: messages_sent(site) > before + 8, 60, lambda: f"beat sends\n{site.log('beat')}")
    beat.terminate()
    beat.wait(30)


def test_systemd_accepts_the_units(site: Documented, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; the other tests parse the units")
    paths = [tmp_path / f"catalogmatch-{name}.service" for name in UNITS]
    for name, path in zip(UNITS, paths, strict=True):
        path.write_text(site.filled(unit_text(name)).replace("User=catalogmatch", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "catalogmatch-" in line]
    assert complaints == []


def test_site_is_served_through_the_documented_nginx(site: Documented, tmp_path: Path) -> None:
    nginx = nginx_binary()
    tls, plain = free_port(), free_port()
    key, certificate = tmp_path / "match.key", tmp_path / "match.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=match.example.com", "-addext", "subjectAltName=DNS:match.example.com"]
    subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    servers = site.filled(the_block(PAGE, "server {"))
    for documented, ours in {
        "listen 443 ssl": f"listen 127.0.0.1:{tls} ssl",
        "listen 80": f"listen 127.0.0.1:{plain}",
        "/etc/ssl/match.pem": str(certificate),
        "/etc/ssl/match.key": str(key),
    }.items():
        assert documented in servers
        servers = servers.replace(documented, ours)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {tmp_path / kind};" for kind in kinds)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off;\n{paths}\n{servers}\n}}\n"
    )
    checked = subprocess.run([nginx, "-t", "-c", config, "-e", "stderr"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    process = site.start("nginx", [nginx, "-c", str(config), "-e", "stderr"])
    try:
        wait_until(lambda: _is_open(tls), 10, lambda: site.log("nginx"))
        trusted = ["--cacert", str(certificate), "--resolve", f"match.example.com:{tls}:127.0.0.1"]
        address = f"https://match.example.com:{tls}"
        assert _curl_status(*trusted, f"{address}/admin/login/") == 200
        assert _curl_status(*trusted, f"{address}/metrics") == 404
        assert _curl_status(*trusted, f"{address}/api/products") == 401
        token = token_of(site, "viewer")
        assert _curl_status(*trusted, "-H", f"Authorization: Bearer {token}", f"{address}/api/products") == 200
        assert _curl_status("-H", "Host: match.example.com", f"http://127.0.0.1:{plain}/") == 301
    finally:
        process.terminate()
        process.wait(10)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _curl_status(*arguments: str) -> int:
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
