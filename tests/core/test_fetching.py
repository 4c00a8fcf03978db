"""Addresses that users name are fetched from public servers only, and within limits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from pytest_django import Settings

from core.web import fetching
from core.web.fetching import Fetcher, FetchError, Known, is_public
from tests.helpers.sample_images import jpeg
from tests.helpers.web.image_server import ImageServer, image_server

LIMIT = 4 * 2**20


@pytest.fixture
def server(settings: Settings) -> Iterator[ImageServer]:
    with image_server() as running:
        settings.FETCH_PRIVATE_HOSTS = [running.host]
        settings.FETCH_SECONDS = 2
        yield running


def fetch(address: str, known: Known | None = None) -> fetching.Fetched:
    with Fetcher() as fetcher:
        return fetcher.fetch(address, max_bytes=LIMIT, known=known)


def refused(address: str) -> FetchError:
    with pytest.raises(FetchError) as error:
        fetch(address)
    assert "address" in str(error.value)
    return error.value


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "168.63.129.16", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:1::1",
    ],
)  # fmt: skip
def test_addresses_of_the_own_network_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "[::1]", "[::ffff:127.0.0.1]", "127.1"]
)
def test_no_spelling_of_the_loopback_is_fetched(server: ImageServer, settings: Settings, host: str) -> None:
    settings.FETCH_PRIVATE_HOSTS = []
    assert refused(f"http://{host}:{server.server_port}/ok/1.jpg").code in {"address_refused", "host_unknown"}
    assert not server.seen


def test_name_that_resolves_to_another_address_the_second_time_leads_nowhere(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the name is resolved once, and the connection goes to the address that was checked."""
    answers = ["93.184.215.14", "127.0.0.1"]
    connected: list[str] = []

    def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), server.server_port))]

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    assert refused(f"http://rebinding.example:{server.server_port}/ok/1.jpg").code == "host_unreachable"
    assert connected == ["93.184.215.14"]


def test_host_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ("93.184.215.14", "10.0.0.1")
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert refused("http://mixed.example/a.jpg").code == "address_refused"


def test_file_is_fetched_with_what_the_server_says_of_it(server: ImageServer) -> None:
    fetched = fetch(server.url("/ok/1.jpg"))
    assert fetched.data == jpeg(1)
    assert fetched.known == Known(etag='"/ok/1.jpg"')


def test_file_that_has_not_changed_is_not_sent_again(server: ImageServer) -> None:
    known = fetch(server.url("/ok/1.jpg")).known
    assert fetch(server.url("/ok/1.jpg"), known).data is None
    assert server.bodies() == 1


def test_redirects_are_followed_and_each_is_checked(server: ImageServer) -> None:
    assert fetch(server.url(f"/redirect?to={quote('/ok/1.jpg')}")).data == jpeg(1)
    with image_server() as inside:
        error = refused(server.url(f"/redirect?to={quote(inside.url('/ok/1.jpg'))}"))
        assert error.code == "address_refused"
        assert not error.temporary
        assert not inside.seen


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/a.jpg", "http://user:word@example.com/a"])
def test_redirect_to_anything_but_a_plain_web_address_is_refused(server: ImageServer, target: str) -> None:
    assert refused(server.url(f"/redirect?to={quote(target)}")).code in {"address_invalid", "address_refused"}


def test_endless_redirects_end(server: ImageServer) -> None:
    loop = server.url("/redirect?to=")
    target = f"{loop}{quote('/redirect?to=x')}"
    for _ in range(8):
        target = f"{loop}{quote(target, safe='')}"
    assert refused(target).code == "too_many_redirects"


@pytest.mark.parametrize("path", ["/stall/1.jpg", "/drip/1.jpg"])
def test_server_that_stalls_is_left_at_the_deadline(server: ImageServer, path: str) -> None:
    started = time.monotonic()
    error = refused(server.url(path))
    assert time.monotonic() - started < 4
    assert (error.code, error.temporary) == ("fetch_timeout", True)


@pytest.mark.parametrize("path", ["/huge/1.jpg", "/endless/1.jpg"])
def test_file_over_the_limit_is_not_read(server: ImageServer, path: str) -> None:
    error = refused(server.url(path))
    assert (error.code, error.temporary) == ("image_too_large", False)


@pytest.mark.parametrize(
    ("path", "code", "temporary"),
    [
        ("/missing.jpg", "http_error", False),
        ("/flaky/1.jpg", "http_error", True),
        ("/html/1.jpg", "not_an_image", False),
        ("/short/1.jpg", "connection_lost", True),
        ("/gzip/1.jpg", "http_error", False),
    ],
)
def test_every_other_failure_says_why_and_whether_to_try_again(
    server: ImageServer, path: str, code: str, temporary: bool
) -> None:
    error = refused(server.url(path))
    assert (error.code, error.temporary) == (code, temporary)


def test_server_that_is_away_gave_no_answer(server: ImageServer, settings: Settings) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.FETCH_PRIVATE_HOSTS = ["127.0.0.1"]
        error = refused(f"http://127.0.0.1:{unused.getsockname()[1]}/a.jpg")
    assert (error.code, error.temporary, error.answered) == ("host_unreachable", True, False)


@pytest.mark.parametrize("address", ["http://", "ftp://example.com/a.jpg", "http://[::1/a.jpg", "a.jpg"])
def test_what_is_no_web_address_is_refused(address: str) -> None:
    assert refused(address).code == "address_invalid"


def test_proxies_of_the_environment_are_not_used(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert fetch(server.url("/ok/1.jpg")).data == jpeg(1)
