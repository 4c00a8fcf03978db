"""Fetch what an address names from public servers, within limits of size, time and redirects.

Everything that CatalogMatch fetches because a user named an address goes through here. The address of the machine is
checked after its name was resolved, and the connection goes to the checked address, so that a name that changes its
address between the two cannot lead inside (DNS rebinding). This holds for each redirect too. See ADR 64.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any

import httpcore2
import httpx2
from django.conf import settings
from django.utils.translation import gettext as _

MAX_REDIRECTS = 5
MAX_ADDRESS = 4_096  # characters
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 15.0  # between two parts of an answer
MAX_RETRY_AFTER = 300.0  # seconds that a server may ask to wait
MAX_CONNECTIONS = 32
_REDIRECTS = {301, 302, 303, 307, 308}
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_HTML = ("text/html", "application/xhtml+xml")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Public addresses that clouds give to services inside a machine's own network.
_INSIDE = {ipaddress.ip_address("168.63.129.16")}

_deadline: ContextVar[float] = ContextVar("fetch_deadline")

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class FetchError(Exception):
    """Something could not be fetched. ``code`` is stable. The message is for the user.

    temporary: whether it may work later. answered: whether the server said anything. retry_after: the seconds that it
    asks to wait.
    """

    def __init__(
        self, code: str, message: str, *, temporary: bool = False, answered: bool = True, retry_after: float = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.temporary = temporary
        self.answered = answered
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Known:
    """What a server said when an address was fetched before, so that it can say whether that has changed."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched. ``data`` is None if it has not changed since ``known``."""

    data: bytes | None
    known: Known


class Fetcher:
    """Fetches addresses. Threads may share it, and connections to one server are used again."""

    def __init__(self) -> None:
        self._client = httpx2.Client(
            transport=_Transport(),
            follow_redirects=False,
            trust_env=False,  # A proxy would resolve names by itself.
            timeout=httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
            headers={"User-Agent": "CatalogMatch", "Accept-Encoding": "identity"},
        )
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def fetch(self, address: str, *, max_bytes: int, accept: str = "*/*", known: Known | None = None) -> Fetched:
        """Return what ``address`` names. Raises FetchError.

        known: what the server said before, to fetch nothing if it has not changed.
        """
        headers = {"Accept": accept}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        token = _deadline.set(time.monotonic() + settings.FETCH_SECONDS)
        try:
            url = parse_address(address)
            for _hop in range(MAX_REDIRECTS + 1):
                with _translated(url), self._client.stream("GET", url, headers=headers) as response:
                    if response.status_code in _REDIRECTS and "location" in response.headers:
                        url = parse_address(str(url.join(response.headers["location"])))
                        continue
                    return _read(response, max_bytes, known)
        finally:
            _deadline.reset(token)
        text = _("The address %(address)s leads from redirect to redirect, more than %(limit)d times.")
        raise FetchError("too_many_redirects", text % {"address": address, "limit": MAX_REDIRECTS})


def parse_address(address: str) -> httpx2.URL:
    """Return an http or https address in its parts. Raises FetchError."""
    try:
        url = httpx2.URL(address.strip())
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise FetchError("address_invalid", _("%s is not a valid address.") % _short(address)) from error
    if url.scheme not in ("http", "https") or not url.host or len(address) > MAX_ADDRESS:
        raise FetchError("address_invalid", _("%s is not a valid http or https address.") % _short(address))
    if url.userinfo:
        text = _("The address of %s contains a password. Passwords are not sent; offer the image without one.")
        raise FetchError("address_refused", text % url.host)
    return url


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to a machine on the internet, not to this machine or its network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = _embedded(ip)
    if inner is not None:
        return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and ip not in _INSIDE


def _embedded(ip: _IPAddress) -> _IPAddress | None:
    """Return the IPv4 address to which a gateway would send what is sent to this IPv6 address."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _resolve(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host, all of them checked. Raises FetchError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = _("The host of the address, %(host)s, is unknown: %(reason)s.")
        values = {"host": host, "reason": getattr(error, "strerror", None) or error}
        raise FetchError("host_unknown", text % values, temporary=True, answered=False) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    excepted = {name.lower() for name in settings.FETCH_PRIVATE_HOSTS}
    if not excepted & {host.lower(), f"{host.lower()}:{port}"}:
        for address in addresses:
            if not is_public(address):
                text = _(
                    "The address leads to %(host)s, which is not on the internet. "
                    "The operator can allow this host with CATALOGMATCH_FETCH_PRIVATE_HOSTS."
                )
                name = host if host == address else f"{host} ({address})"
                raise FetchError("address_refused", text % {"host": name})
    return addresses


class _Transport(httpx2.HTTPTransport):
    """HTTP over connections of ``_Backend``. httpx has no public way to choose how to connect."""

    def __init__(self) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )


class _Backend(httpcore2.SyncBackend):
    """Connects to checked addresses only, and ends each fetch at its deadline."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        failure: Exception | None = None
        for address in _resolve(host, port):
            try:
                stream = super().connect_tcp(address, port, _remaining(timeout), local_address, socket_options)
                return _Stream(stream)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *_arguments: object, **_options: object) -> httpcore2.NetworkStream:
        raise httpcore2.ConnectError("sockets of this machine are not used")


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends at the deadline of the fetch that uses it."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _remaining(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _remaining(timeout: float | None) -> float:
    remaining = _deadline.get() - time.monotonic()
    if remaining <= 0:
        raise httpcore2.ReadTimeout("deadline")
    return remaining if timeout is None else min(timeout, remaining)


def _read(response: httpx2.Response, max_bytes: int, known: Known | None) -> Fetched:
    """Return the body of a final answer. Raises FetchError."""
    status, host = response.status_code, response.url.host
    if status == 304 and known is not None:
        return Fetched(None, known)
    if status != 200:
        text = _("The server %(host)s of the address answered %(status)d %(phrase)s.")
        values = {"host": host, "status": status, "phrase": response.reason_phrase}
        pause = _retry_after(response)
        temporary = status in _TEMPORARY
        raise FetchError("http_error", (text % values).replace(" .", "."), temporary=temporary, retry_after=pause)
    if response.headers.get("content-type", "").lower().startswith(_HTML):
        raise FetchError("not_an_image", _("The address leads to a web page, not to a file."))
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchError("http_error", _("The server %s of the address sends files only compressed.") % host)
    too_large = FetchError(
        "image_too_large",
        _("The file at the address is larger than the limit of %d MiB.") % (max_bytes // 2**20),
    )
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    data = bytearray()
    for part in response.iter_raw():
        data += part
        if len(data) > max_bytes:
            raise too_large
    return Fetched(
        bytes(data),
        Known(response.headers.get("etag", "")[:500], response.headers.get("last-modified", "")[:100]),
    )


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), MAX_RETRY_AFTER) if value.isdecimal() else 0.0


@contextmanager
def _translated(url: httpx2.URL) -> Iterator[None]:
    """Turn what httpx raises into FetchError."""
    try:
        yield
    except httpx2.TimeoutException as error:
        connecting = isinstance(error, httpx2.ConnectTimeout)
        text = (
            _("The server %s of the address did not answer in time.")
            if connecting
            else _("The server %s of the address took too long to send the file.")
        )
        raise FetchError("fetch_timeout", text % url.host, temporary=True, answered=not connecting) from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
        raise FetchError("address_invalid", _("%s is not a valid address.") % _short(str(url))) from error
    except httpx2.ConnectError as error:
        text = _("The server %(host)s of the address cannot be reached: %(reason)s.")
        values = {"host": url.host, "reason": str(error).rstrip(".")}
        raise FetchError("host_unreachable", text % values, temporary=True, answered=False) from error
    except httpx2.HTTPError as error:
        text = _("The server %(host)s of the address broke off: %(reason)s.")
        values = {"host": url.host, "reason": str(error).rstrip(".")}
        raise FetchError("connection_lost", text % values, temporary=True) from error


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
