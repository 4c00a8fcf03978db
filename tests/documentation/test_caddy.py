"""The site is served through deploy/Caddyfile as through nginx."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.documentation.documented import Documented
from tests.documentation.test_deployment import _curl_status, _is_open, token_of
from tests.helpers.installations import REPO
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

SITE = "match.example.com"


def caddy_binary() -> str:
    """Return the path of Caddy. Without it, skip the test, or fail in CI."""
    if found := shutil.which("caddy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        return found
    missing = "caddy is not installed"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def test_site_is_served_through_the_caddyfile(site: Documented, tmp_path: Path) -> None:
    caddy = caddy_binary()
    tls, plain = free_port(), free_port()
    # Other ports, and a certificate of its own instead of one from the internet.
    options = f"{{\nadmin off\nskip_install_trust\nlocal_certs\nhttp_port {plain}\nhttps_port {tls}\n}}\n"
    text = (REPO / "deploy/Caddyfile").read_text("utf-8")
    assert "reverse_proxy web:8000 " in text
    config = tmp_path / "Caddyfile"
    config.write_text(options + text.replace("web:8000", f"127.0.0.1:{site.port}"))
    env = {"CATALOGMATCH_SITE": SITE, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    process = site.start("caddy", [caddy, "run", "--adapter", "caddyfile", "--config", str(config)], env)
    certificate = tmp_path / "caddy/pki/authorities/local/root.crt"
    try:
        wait_until(lambda: _is_open(tls) and certificate.exists(), 30, lambda: site.log("caddy"))
        trusted = ["--cacert", str(certificate), "--resolve", f"{SITE}:{tls}:127.0.0.1"]
        address = f"https://{SITE}:{tls}"
        wait_until(lambda: _serves([*trusted, f"{address}/healthz"]), 30, lambda: site.log("caddy"))
        assert _curl_status(*trusted, f"{address}/admin/login/") == 200
        assert _curl_status(*trusted, f"{address}/metrics") == 404
        assert _curl_status(*trusted, f"{address}/api/products") == 401
        token = token_of(site, "reviewer")
        assert _curl_status(*trusted, "-H", f"Authorization: Bearer {token}", f"{address}/api/products") == 200
        to_plain = ["--resolve", f"{SITE}:{plain}:127.0.0.1", f"http://{SITE}:{plain}/"]
        assert _curl_status(*to_plain) in (301, 308)
    finally:
        process.terminate()
        process.wait(10)


def _serves(arguments: list[str]) -> bool:
    from subprocess import CalledProcessError

    try:
        return _curl_status(*arguments) == 200
    except CalledProcessError:
        return False
