"""Requests that no client should send: odd values in every part, for every route and form of the program."""

from __future__ import annotations

import json
import random
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote_from_bytes, urljoin, urlsplit

import pytest
from django.contrib import admin
from django.core.cache import caches
from django.db import connection, transaction
from django.http import QueryDict
from django.test import Client
from django.utils.datastructures import MultiValueDict

from tests.helpers.sample_images import jpeg
from tests.helpers.web.routes import APP_LABELS

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
FORM, MULTIPART, JSON = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"

NUMBERS = [
    "0", "-1", "1", "1.5", "2147483648", str(2**63 - 1), str(2**63), str(-(2**63) - 1), str(10**40), "9" * 5000,
    "1e400", "-0", "+1", "1_000", "0x10", " 1", "NaN", "nan", "Infinity", "-inf", "1e-400", "²", "٣", "\uff11", "½",
    "Ⅷ",
]  # fmt: skip
TEXTS = [
    "", " ", "\0", "a\0b", "\ud800", "a\udfff", "é", "ключ", "\u202e", "\r\nX-Forged: 1", "😀" * 50, "x" * 3000,
    "x" * 70_000,
    "[]", "{}", "null", "true", "[[[[[[[[[[", "__proto__", "../../etc/passwd", "%", "%s%n", "'\"--", "<script>",
    "0-0", "²-²-²", f"{2**64}-1-1", "--", "-", "a__b", "pk__in", "-pk", "1.-2.3", ".", "1,2", f"{2**64},1",
    "9999-12-31", "0001-01-01", "0000-00-00",
    "10000-01-01", "2024-02-30", "00000000-0000-0000-0000-000000000000", "delete_selected", "failed", "all", "pending",
    "http://[", "//evil.example", "javascript:x",
]  # fmt: skip
VALUES = NUMBERS + TEXTS
JSON_VALUES: list[Any] = [
    None, True, [], {}, [1], [[]], {"a": 1}, 1.5, -1, 2**63, 10**400, float("nan"), float("inf"), float("-inf"), [None],
    {"": ""}, {"\0": "\0"}, {"\ud800": 1}, *TEXTS[:13], *NUMBERS[:12],
]  # fmt: skip
HEADERS: dict[str, list[str]] = {
    "HTTP_AUTHORIZATION": ["Token é", "Bearer \xff", "Token", "Basic \xff", "Basic " + "x" * 9000, "\xff\xfe"],
    "HTTP_COOKIE": [
        "sessionid=é", "csrftoken=\xff; sessionid=" + "x" * 5000, "=;=;;", "sessionid", "messages=x:y:z",
        "messages=\xff", "django_language=\xff", 'sessionid="\\777"', "__Host-a=1; \x80=1", "csrftoken=",
    ],
    "HTTP_ACCEPT": ["", "\xff", "*", "/", "text/html;q=x", "application/json; indent=99999999999", "a/b;q=1e999",
    "text/;,/x",
                    "application/json; charset=hex", "application/json; version=" + "9" * 500, ";",
                    "application/vnd.oai.openapi"],
    "HTTP_ACCEPT_LANGUAGE": ["\xff", "x" * 5000, "de;q=nan", "*", "en-" * 300, ";q=", "zh-Hant-" + "a" * 400],
    "HTTP_ACCEPT_ENCODING": ["\xff", "gzip;q=x", "*"],
    "HTTP_RANGE": ["bytes=-", "bytes=9-1", f"bytes=0-{10**40}", "bytes=²-", "x", "bytes=0-0," * 500, "\xff"],
    "HTTP_IF_NONE_MATCH": ["*", '"', "\xff", "W/", "x" * 5000],
    "HTTP_IF_MATCH": ["*", '"', "\xff"],
    "HTTP_IF_MODIFIED_SINCE": ["x", "Mon, 99 Foo 99999 99:99:99 GMT", "\xff", "Thu, 01 Jan 0000 00:00:00 GMT",
                               "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:99 GMT"],
    "HTTP_HOST": ["", "\xff", "a b", "evil.example", "127.0.0.1:99999999", "[::", "[::1]:x", "x" * 3000],
    "HTTP_REFERER": ["http://[", "\xff", "//", "x" * 5000],
    "HTTP_ORIGIN": ["null", "http://[", "\xff", "x://"],
    "HTTP_HX_REQUEST": ["true", "\xff"],
    "HTTP_HX_CURRENT_URL": ["http://[", "\xff", "http://x/?score=\xff&since=0000-00-00&until=%ff", "?" + "a=1&" * 3000,
                            "http://[::1/?x=1", "//\u2100"],
    "HTTP_X_FORWARDED_FOR": ["\xff", "1" * 5000, ",,,", "::::", "1.2.3.4, x"],
    "HTTP_X_FORWARDED_PROTO": ["\xff", "https,", ""],
    "HTTP_X_REQUEST_ID": ["\xff", "x" * 5000, "\r\n", ""],
    "HTTP_X_CSRFTOKEN": ["\xff", "x" * 5000],
    "HTTP_X_HTTP_METHOD_OVERRIDE": ["DELETE", "\xff"],
    "HTTP_X_REQUESTED_WITH": ["XMLHttpRequest"],
    "CONTENT_TYPE": [
        "", "\xff", "/", ";", "x", "text/plain", "application/xml", "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\xff", "multipart/form-data; boundary=" + "x" * 500,
        "multipart/mixed; boundary=x",
        *(f"{kind}; charset={charset}" for kind in (FORM, MULTIPART, JSON, "text/plain") for charset in (
            "utf-16", "hex", "base64", "rot13", "idna", "punycode", "undefined", "unicode_escape", "utf-7", "klingon",
            "\xff",
            "a\0b", "x" * 300, "utf-8-sig", "utf-32",
        )),
    ],
}  # fmt: skip
IMAGE_PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
RAW_BODIES = [
    b"", b"\xff", b"{", b"[]", b"null", b'"x"', b"1", b"NaN", b"-Infinity", b"[" * 100_000, b'{"a":' * 5000,
    b"9" * 5000, b"\xef\xbb\xbf{}",
    b'{"name": "\xff"}', b'{"name": "\\ud800"}', b'{"name": 1e999}', b"a=%ff&b=%zz&%=%", b"&" * 3000, b"a=1&" * 3000,
    b"=",
    b"--x", b"--x\r\n", b"--x--", b"--x--\r\n", b"--x\r\n\r\n\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n\xff\xd8\xff',
    b"--x\r\nContent-Disposition: form-data; name*=utf-8''%ff%; filename*=klingon''x\r\n\r\nv\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="image"; filename*=\xff\r\n\r\nv\r\n--x--\r\n',
    b'--x\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n!\r\n--x--\r\n',
    IMAGE_PART + b"Content-Transfer-Encoding: base64\r\n\r\nAAA\xff\r\n--x--\r\n",
    IMAGE_PART + b"Content-Type: image/x; charset=hex\r\nContent-Length: \xb2\r\n\r\nv\r\n--x--\r\n",
    IMAGE_PART + b"Content-Type: \xff; charset=hex\r\n\r\nv\r\n--x--\r\n",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``query`` and ``body`` are bytes as they are sent, ``path`` is not quoted."""

    role: str
    method: str
    route: str
    path: bytes
    query: bytes = b""
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = f"{self.role}: {self.method} {quote_from_bytes(self.path)[:200]}?{self.query[:300]!r}"
        return f"{parts} {self.headers} {self.content_type!r} {self.body[:600]!r}"


@dataclass(frozen=True, slots=True)
class Form:
    """A form of a page with the values that a browser would send."""

    route: str
    path: bytes
    method: str
    fields: tuple[tuple[str, str], ...]


# --- encoding ------------------------------------------------------------------------------------


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def as_query(pairs: Sequence[tuple[str, str]]) -> bytes:
    return "&".join(
        f"{quote_from_bytes(as_bytes(name))}={quote_from_bytes(as_bytes(value))}" for name, value in pairs
    ).encode()


def as_multipart(pairs: Sequence[tuple[str, str]], files: Sequence[tuple[str, str, bytes]] = ()) -> bytes:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (as_bytes(name), as_bytes(value))
        for name, value in pairs
    ]
    parts += [
        b'--x\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
        % (as_bytes(name), as_bytes(filename), content)
        for name, filename, content in files
    ]
    return b"".join(parts) + b"--x--\r\n"


# --- what the program reads ----------------------------------------------------------------------


class _Forms(HTMLParser):
    """The forms of a page: (address, method, fields). Fields outside of a form count for the form that they name."""

    def __init__(self, address: str, page: str) -> None:
        super().__init__()
        self.address = address
        self.forms: list[tuple[str, str, list[tuple[str, str]]]] = []
        self._select = self._textarea = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.forms.append((urljoin(self.address, given.get("action", "")), given.get("method", "get").upper(), []))
        for name in ("hx-post", "hx-get"):
            if name in given:
                self.forms.append((urljoin(self.address, given[name]), name[3:].upper(), []))
        if not self.forms:
            return
        fields = self.forms[-1][2]
        if tag == "input" and "name" in given and given.get("type") not in ("file",):
            fields.append((given["name"], given.get("value", "on")))
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and self._select and given.get("value"):
            fields.append((self._select, given["value"]))
        elif tag == "textarea" and "name" in given:
            fields.append((given["name"], "{}"))
        elif tag == "button" and "name" in given:
            fields.append((given["name"], given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""


@contextmanager
def recorded_names(seen: dict[str, set[str]], current: list[str]) -> Iterator[None]:
    """Add every name that the program looks up in a query, a form or files to ``seen[current[0]]``."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("get", "getlist", "__getitem__", "__contains__", "pop"):
            original: Any = getattr(MultiValueDict, method)

            def recording(self: Any, key: Any, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
                # An empty one that is no query holds files. Django's URL resolvers have full ones of another kind.
                if current and isinstance(key, str) and (isinstance(self, QueryDict) or not self):
                    seen.setdefault(current[0], set()).add(key)
                return _original(self, key, *args, **kwargs)

            patch.setattr(MultiValueDict, method, recording, raising=False)
        yield


def list_parameters(request: Any) -> dict[str, set[str]]:
    """Return the parameters of the list of every registered model by its route."""
    found = {}
    for model, model_admin in admin.site._registry.items():
        filters = model_admin.get_changelist_instance(request).filter_specs
        names = {str(name) for spec in filters for name in spec.expected_parameters()}
        lookups = {
            f"{name}__{lookup}" for name in ("id", "pk") for lookup in ("exact", "in", "gte", "isnull", "regex", "year")
        }
        options = model._meta
        found[f"admin/{options.app_label}/{options.model_name}/"] = names | lookups
    return found


ADMIN_NAMES = {
    "o", "q", "p", "e", "all", "_popup", "_to_field", "_facets", "_changelist_filters", "_save", "_continue",
    "_addanother",
    "_saveasnew", "action", "_selected_action", "select_across", "index", "term", "app_label", "model_name",
    "field_name",
    "next", "post",
}  # fmt: skip
API_NAMES = {"page", "page_size", "ordering", "search", "format", "limit", "offset"}


class Target:
    """The program with its rows: sends calls, and undoes what each one changed."""

    def __init__(self, sessions: dict[str, str | None]) -> None:
        """``sessions`` is the session key of each role; None for an anonymous client."""
        self.sessions = sessions
        self.client = Client(raise_request_exception=False)
        self.problems: dict[str, tuple[int, str]] = {}
        self.statuses: dict[int, int] = {}
        self.count = 0

    def send(self, call: Call) -> Any:
        for cache in caches.all(initialized_only=True):
            cache.clear()  # no throttle, so that every call reaches its view
        self.client.cookies = SimpleCookie()
        if (key := self.sessions[call.role]) is not None:
            self.client.cookies["sessionid"] = key
        extra: dict[str, Any] = {
            "PATH_INFO": call.path.decode("latin-1"),
            "QUERY_STRING": call.query.decode("latin-1"),
            **call.headers,
        }
        if call.content_type and not call.body:
            extra.setdefault("CONTENT_TYPE", call.content_type)
            extra.setdefault("CONTENT_LENGTH", "0")
        with transaction.atomic():
            try:
                response: Any = self.client.generic(
                    call.method, "/", call.body, call.content_type or "application/octet-stream", **extra
                )
                body = b"".join(response.streaming_content) if response.streaming else response.content
                connection.check_constraints()  # a commit would
            except Exception:  # noqa: BLE001  # a server makes a 500 of any
                self._record(call, 500, traceback.format_exc())
                response, body = None, b""
            transaction.set_rollback(True)
        self.count += 1
        if response is not None:
            self.statuses[response.status_code] = self.statuses.get(response.status_code, 0) + 1
            if response.status_code >= 500 and (b"database" in body or response.status_code not in (503, 507)):
                error = getattr(response, "exc_info", None)
                self._record(
                    call,
                    response.status_code,
                    "".join(traceback.format_exception(*error)) if error else repr(body[:500]),
                )
            self.client.exc_info = None
        return response, body

    def _record(self, call: Call, status: int, text: str) -> None:
        lines = [line for line in text.splitlines() if line.strip()]
        frames = [line.strip() for line in lines if line.strip().startswith("File")]
        kind = f"{frames[-1] if frames else ''} {lines[-1].partition(':')[0]}"
        count, first = self.problems.get(kind, (0, f"{status} {call}\n{text}"))
        self.problems[kind] = count + 1, first

    def report(self) -> str:
        """Return one example of each kind of failure with its call and traceback."""
        return "\n\n".join(
            f"{count} times, for example {first[-6000:] if len(first) > 9000 else first}"
            for count, first in self.problems.values()
        )


class Generator:
    """Calls with nonsense for every route, from a seed."""

    def __init__(self, seed: int, paths: dict[str, bytes], roles: Sequence[str]) -> None:
        self.random = random.Random(seed)
        self.paths = paths  # route → address of a real row
        self.roles = roles
        self.names: dict[str, set[str]] = {}
        self.forms: list[Form] = []

    def learn(self, target: Target, request: Any) -> None:
        """Send harmless calls, and note which names each route reads and which forms its pages have."""
        current: list[str] = []
        routes_by_path = {path: route for route, path in self.paths.items()}
        seen_forms = set()
        with recorded_names(self.names, current):
            for route, path in self.paths.items():
                current[:] = [route]
                for method, content_type, body in (
                    ("GET", "", b""), ("POST", MULTIPART, as_multipart([("x", "1")])), ("PATCH", FORM, b"x=1"),
                    ("POST", FORM, b"x=1"),
                ):  # fmt: skip
                    response, page = target.send(
                        Call("superuser", method, route, path, body=body, content_type=content_type)
                    )
                    if response is not None and response.headers.get("Content-Type", "").startswith("text/html"):
                        for address, verb, fields in _Forms(
                            "http://testserver" + quote_from_bytes(path), page.decode()
                        ).forms:
                            parts = urlsplit(address)
                            form = Form(
                                routes_by_path.get(parts.path.encode(), route), parts.path.encode(), verb, tuple(fields)
                            )
                            key = form.path, verb, tuple(name for name, _value in fields)
                            if key not in seen_forms:
                                seen_forms.add(key)
                                self.forms.append(form)
        for route in self.paths:
            self.names.setdefault(route, set()).update(() if route.startswith("admin") else API_NAMES)
        for route, names in list_parameters(request).items():
            for other in self.paths:
                if other == route or other.startswith(f"{route}export"):
                    self.names[other] |= ADMIN_NAMES | names
                elif other.startswith((f"{route}add", f"{route}<path")):
                    self.names[other] |= ADMIN_NAMES
        actions = {
            f"admin/{model._meta.app_label}/{model._meta.model_name}/": sorted(model_admin.get_actions(request))
            for model, model_admin in admin.site._registry.items()
        }
        self.actions = {route: names for route, names in actions.items() if names}

    # --- one fault a call, for every place where a value can be -----------------------------------

    def single_faults(self) -> Iterator[Call]:
        """Return a call for every route, every name that it reads and every value; and for every header and body."""
        for route, path in self.paths.items():
            yield from (replace(call, role="superuser") for call in self._of_route(route, path))
        for form in self.forms:
            yield from self._of_form(form)
        for route, actions in self.actions.items():
            for action in actions:
                for value in VALUES:
                    for fields in (
                        [("action", action), ("_selected_action", value)],
                        [("action", action), ("_selected_action", "1"), ("select_across", value), ("index", "0")],
                        [("action", action), ("_selected_action", "1"), ("index", value)],
                        [("action", action), ("_selected_action", "1"), ("expected", value), ("post", value)],
                    ):
                        yield Call(
                            "superuser", "POST", route, self.paths[route], body=as_query(fields), content_type=FORM
                        )

    def _of_route(self, route: str, path: bytes) -> Iterator[Call]:
        bare = Call("", "GET", route, path)
        for method in METHODS:
            yield replace(bare, method=method)
        for value in VALUES:
            if (odd := self._odd_path(route, path, value)) != path:
                for method in ("GET", "POST", "PATCH", "DELETE"):
                    yield replace(bare, method=method, path=odd)
        for name in sorted(self.names[route]):
            for value in VALUES:
                pairs = [(name, value)]
                yield replace(bare, query=as_query(pairs))
                yield replace(bare, method="POST", body=as_query(pairs), content_type=FORM)
            for value in JSON_VALUES if route.startswith("api") else ():
                for method in ("POST", "PATCH"):
                    yield replace(bare, method=method, body=json.dumps({name: value}).encode(), content_type=JSON)
            for content in (b"", b"\0", jpeg(1)[:200]):
                files = [(name, self.random.choice(["", "a.jpg", "\0", "../x", "é.zip", "x" * 400 + ".csv"]), content)]
                yield replace(bare, method="POST", body=as_multipart([], files), content_type=MULTIPART)
        for header, values in HEADERS.items():
            for value in values:
                yield replace(bare, headers={header: value})
                yield replace(bare, headers={header: value}, query=b"q=%ff&page=1")
                if header == "CONTENT_TYPE":
                    for body in (b"a=%ff&b=1", b'{"a": 1}', as_multipart([("a", "1")], [("image", "a", b"1")])):
                        yield replace(
                            bare, method="POST", content_type=value or "x", body=body, headers={header: value}
                        )
        for body in RAW_BODIES:
            for content_type in (FORM, MULTIPART, JSON):
                for method in ("POST", "PATCH"):
                    yield replace(bare, method=method, body=body, content_type=content_type)
        for query in (
            b"%",
            b"%zz=%zz",
            b"\xff=\xff",
            b"&" * 2000,
            b"a=1&" * 2000,
            b"=",
            b"a[]=1&a[b]=1",
            b"page=1&page=2&q=1&q=2",
        ):
            yield replace(bare, query=query)

    def _of_form(self, form: Form) -> Iterator[Call]:
        bare = Call("superuser", form.method, form.route, form.path)
        for name in dict.fromkeys(name for name, _value in form.fields):
            others = [pair for pair in self._filled(form) if pair[0] != name]
            for value in VALUES:
                yield self._sent(bare, [*others, (name, value)])
            yield self._sent(bare, [*others, (name, "1"), (name, "2")])
            yield self._sent(bare, others)

    def _sent(self, bare: Call, pairs: Sequence[tuple[str, str]]) -> Call:
        if bare.method == "GET":
            return replace(bare, query=as_query(pairs))
        return replace(bare, body=as_multipart(pairs), content_type=MULTIPART)

    def _filled(self, form: Form) -> list[tuple[str, str]]:
        """Return one value of each field, chosen from those that the page offers."""
        options: dict[str, list[str]] = {}
        for name, value in form.fields:
            options.setdefault(name, []).append(value)
        return [(name, self.random.choice(values)) for name, values in options.items()]

    def _odd_path(self, route: str, path: bytes, value: str) -> bytes:
        if "<" not in route:
            return path
        if route.startswith("^media"):
            return b"/media/" + as_bytes(value)
        odd = re.sub(
            r"<[^>]+>",
            lambda _: value,
            route.replace(APP_LABELS, "<x>").replace("(?P<url>.*)$", "<x>"),
        )
        return b"/" + as_bytes(odd)

    # --- several faults a call, for every role ----------------------------------------------------

    def mixed(self) -> Call:
        """Return a call with faults in several places."""
        choose = self.random.choice
        route = choose(list(self.paths))
        call = Call(choose(self.roles), choose(METHODS), route, self.paths[route])
        if self.forms and self.random.random() < 0.4:
            form = choose(self.forms)
            pairs = [
                (name, choose(VALUES) if self.random.random() < 0.2 else value) for name, value in self._filled(form)
            ]
            call = self._sent(replace(call, method=form.method, route=form.route, path=form.path), pairs)
        else:
            if self.random.random() < 0.3:
                call = replace(call, path=self._odd_path(route, call.path, choose(VALUES)))
            names = sorted(self.names[route]) or ["x"]
            pairs = [(choose(names), choose(VALUES)) for _ in range(self.random.randint(0, 4))]
            if self.random.random() < 0.5:
                call = replace(call, query=as_query(pairs))
            kind = choose(["none", "form", "multipart", "json", "raw"])
            pairs = [(choose(names), choose(VALUES)) for _ in range(self.random.randint(1, 4))]
            if kind == "form":
                call = replace(call, body=as_query(pairs), content_type=FORM)
            elif kind == "multipart":
                files = [
                    (
                        choose(["image", "images", "files", choose(names)]),
                        choose(TEXTS)[:300],
                        choose([b"", b"\0", jpeg(1), jpeg(1)[:300], b"sku,name\n1,2\n"]),
                    )
                ]
                body = as_multipart(pairs, files)
                call = replace(
                    call,
                    body=body[: self.random.randint(1, len(body))] if self.random.random() < 0.3 else body,
                    content_type=MULTIPART,
                )
            elif kind == "json":
                call = replace(
                    call,
                    body=json.dumps({name: choose(JSON_VALUES) for name, _value in pairs}).encode(),
                    content_type=JSON,
                )
            elif kind == "raw":
                call = replace(call, body=choose(RAW_BODIES), content_type=choose([FORM, MULTIPART, JSON]))
        if self.random.random() < 0.3:
            header = choose(list(HEADERS))
            call = replace(call, headers={header: choose(HEADERS[header])})
        return call
