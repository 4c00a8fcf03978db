"""The network that an address belongs to, so that throttles count clients and not addresses."""

from __future__ import annotations

import ipaddress
import re

# An IPv4 address that a translator wrote into an IPv6 address (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Some proxies add the port: 192.0.2.1:443, [2001:db8::1]:443.
_WITH_PORT = re.compile(r"\[(?P<v6>[^]]+)\](?::\d+)?|(?P<v4>\d+(?:\.\d+){3}):\d+")


def network_of(address: str | None, prefix: int) -> str | None:
    """Return the IPv4 address, or the IPv6 network of ``prefix`` bits, as a text that is the same in any notation.

    One client can use all addresses of its IPv6 /64. Returns None for an IPv4 address if ``prefix`` is below 64,
    as there is no wider network to count. A text that is not an address is returned as it is.
    """
    text = (address or "").strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["v6"] or match["v4"]
    try:
        parsed: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text if prefix >= 64 else None
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        if mapped is None and parsed in _NAT64:
            mapped = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if mapped is None:
            return str(ipaddress.IPv6Network((int(parsed), prefix), strict=False))
        parsed = mapped
    return str(parsed) if prefix >= 64 else None
