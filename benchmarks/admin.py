"""Measure the admin's pages and the API's lists on a full catalogue.

    python -m benchmarks.admin [--products 100000] [--json PATH] [--folder FOLDER] [--only TEXT]

Fills a SQLite database with products and 1.2 images and 3 matches for each (benchmarks/catalogue.py). Starts the real
web server with two processes, signs in and requests:

- every list of the admin: its first and last page, each filter, each sortable column, rare and common search words;
- home, device, search by image and other pages;
- the next review case with each filter;
- the API's lists.

Each address is requested 9 times after 4 times of warm-up. The result is milliseconds of whole responses. With
``--folder`` the catalogue stays in that folder and is used again.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import os
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from itertools import chain, groupby
from typing import Any
from urllib.parse import urlencode

from benchmarks.installation import environment, manage, web_server
from benchmarks.machine import describe_machine, print_machine

ROUNDS, WARM_UP = 9, 4
GOAL_MS, CASE_GOAL_MS = 300, 100
USER, PASSWORD = "benchmark-admin", "for the benchmark only"
WORDS = ("SKU-0000777", "blue", "ceramic mug", "Nordal blue", "nothing-of-that-name")


def fill(folder: Path, products: int) -> None:
    """Set up Django on an installation in ``folder``, and write the catalogue if it has none."""
    filled = folder / "filled"
    env = environment(folder / "data")
    os.environ |= {**env, "DJANGO_SETTINGS_MODULE": "catalogmatch.settings"}
    manage(env, "migrate", "--verbosity", "0")
    manage(env, "collectstatic", "--noinput", "--verbosity", "0")
    import django

    django.setup()
    if filled.exists():
        return
    from django.contrib.auth.models import User

    from benchmarks import catalogue, vectors

    start = time.perf_counter()
    images = products * 12 // 10
    contents = catalogue.Contents(
        arrivals=products * 3 // 10, failed=products // 100, pending=products // 50, claimed=16, reviewers=300,
        complete=True,
    )  # fmt: skip
    embeddings = vectors.clip_like_vectors(images, queries=1).vectors
    catalogue.fill_database(embeddings, catalogue.zipf_categories(products), contents)
    User.objects.create_superuser(USER, password=PASSWORD)
    print(f"catalogue written in {time.perf_counter() - start:.0f} s")
    manage(env, "reindex", "--index-only")
    filled.touch()


def admin_lists() -> Iterator[tuple[str, str]]:
    from django.contrib import admin
    from django.contrib.auth.models import User

    user = User.objects.get(username=USER)
    return chain.from_iterable(list_addresses(model_admin, user) for model_admin in admin.site._registry.values())


def list_addresses(model_admin: Any, user: Any) -> Iterator[tuple[str, str]]:
    """Yield name and address of an admin list: its first page, then its last, filters, orders and searches."""
    from django.test import RequestFactory
    from django.urls import reverse

    request = RequestFactory().get("/")
    request.user = user
    options = model_admin.opts
    name = str(options.verbose_name_plural)
    address = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    changes = model_admin.get_changelist_instance(request)
    yield name, address
    yield f"{name}, last page", f"{address}?p={changes.paginator.num_pages}"
    for filter_ in changes.filter_specs:
        for parameter, value in choices(filter_):
            yield f"{name}, {filter_.title} {value}", f"{address}?{urlencode({parameter: value})}"
    for number, column in enumerate(changes.list_display):
        if column in changes.sortable_by and changes.get_ordering_field(column):
            yield f"{name}, by {column}", f"{address}?o={number}"
            yield f"{name}, by {column}, descending", f"{address}?o=-{number}"
    for word in WORDS if changes.search_fields else ():
        yield f"{name}, search {word!r}", f"{address}?{urlencode({'q': word})}"


def choices(filter_: Any) -> list[tuple[str, str]]:
    """Return parameter and value of a filter's choices: all, or of many the first two and the last."""
    if hasattr(filter_, "parameter_name"):
        values = [str(value) for value, _ in filter_.lookup_choices]
        parameter = filter_.parameter_name
    elif hasattr(filter_, "lookup_choices"):
        values, parameter = [str(value) for value, _ in filter_.lookup_choices], filter_.lookup_kwarg
    else:
        flat = filter_.field.flatchoices or [(1, ""), (0, "")]
        values, parameter = [str(value) for value, _ in flat], filter_.lookup_kwarg
    return [(parameter, value) for value in (values if len(values) <= 6 else [*values[:2], values[-1]])]


def pages() -> Iterator[tuple[str, str]]:
    from matching.models import Match
    from products.models import Product

    product = f"/admin/products/product/{Product.objects.latest('pk').pk}"
    match = f"/admin/matching/match/{Match.objects.earliest('pk').pk}"
    yield "home", "/admin/"
    yield "history", "/admin/history/"
    yield "device", "/admin/device/"
    yield "search by image", "/admin/ask/"
    yield "upload", "/admin/products/product/add/"
    yield "import", "/admin/products/product/import/"
    yield "product", f"{product}/change/"
    yield "product, history", f"{product}/history/"
    yield "product, delete", f"{product}/delete/"
    yield "match, history", f"{match}/history/"


def cases() -> Iterator[tuple[str, str]]:
    """Yield the page of the next case and ``ahead/``, by which the page loads the following case (POST)."""
    from matching.models import Match

    waiting = Match.objects.filter(review_status="pending").select_related("product").order_by("product")
    first, last = (waiting.values("product__category", "product__created_at")[n] for n in (0, waiting.count() - 1))
    for query in (
        {},
        {"score": 90},
        {"score": 50},
        {"score": 0},
        {"category": first["product__category"]},
        {"category": last["product__category"], "score": 90},
        {"since": f"{first['product__created_at']:%Y-%m-%d}", "until": f"{first['product__created_at']:%Y-%m-%d}"},
        {"since": f"{last['product__created_at']:%Y-%m-%d}"},
    ):
        name = " ".join(map(str, query.values())) or "any"
        yield f"case: {name}", f"/admin/matching/match/case/?{urlencode(query)}"
        yield f"case: {name}, ahead", f"/admin/matching/match/case/ahead/?{urlencode(query)}"


def api_lists() -> Iterator[tuple[str, str]]:
    from rest_framework.settings import api_settings

    from matching.models import Match
    from products.models import Product

    category = urlencode({"category": Product.objects.values_list("category", flat=True)[0]})
    products, matches = (-(-model.objects.count() // int(api_settings.PAGE_SIZE or 1)) for model in (Product, Match))
    for query in ("", "is_historical=false", category, "state=failed", "state=ready", "search=blue",
                  "search=SKU-0000777", f"page={products}"):  # fmt: skip
        yield f"API products {query}".strip(), f"/api/products?{query}"
    for query in ("", "review_status=pending", "review_status=confirmed", category, "min_score=95", "min_score=10",
                  f"page={matches}"):  # fmt: skip
        yield f"API matches {query}".strip(), f"/api/matches?{query}"
    yield "API queue", "/api/queue"


def sign_in(url: str) -> Callable[[str], tuple[float, int]]:
    """Sign in, and return a function that requests an address and returns seconds and bytes."""
    jar = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"{url}/admin/login/").read()
    form = {"username": USER, "password": PASSWORD, "csrfmiddlewaretoken": csrf_token(jar), "next": "/admin/"}
    browser.open(f"{url}/admin/login/", urlencode(form).encode()).read()
    csrf = csrf_token(jar)

    def request(address: str) -> tuple[float, int]:
        body = urlencode({"csrfmiddlewaretoken": csrf}).encode() if "/ahead/" in address else None
        start = time.perf_counter()
        with browser.open(f"{url}{address}", body, timeout=120) as response:
            size = len(response.read())
        if "/login/" in response.url:
            raise RuntimeError(f"{address} leads to the sign-in page.")
        return time.perf_counter() - start, size

    return request


def csrf_token(jar: CookieJar) -> str:
    return next(cookie.value or "" for cookie in jar if cookie.name == "csrftoken")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--folder", type=Path, help="keep the catalogue in this folder (default: a temporary one)")
    parser.add_argument("--only", default="", help="measure only pages with this text in their name")
    options = parser.parse_args()
    print_machine()
    print("load average:", os.getloadavg()[0])
    with tempfile.TemporaryDirectory(prefix="admin-") as name:
        folder = options.folder or Path(name)
        fill(folder, options.products)
        with web_server(environment(folder / "data"), workers=2) as (url, _token):
            rows = measure(sign_in(url), options.only)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1))


def measure(request: Callable[[str], tuple[float, int]], only: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, address in chain(admin_lists(), pages(), cases(), api_lists()):
        if only not in name:
            continue
        responses = [request(address) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
        milliseconds = [1000 * seconds for seconds, _size in responses]
        median = statistics.median(milliseconds)
        row: dict[str, Any] = {
            "page": name,
            "address": address,
            "median_ms": round(median, 1),
            "max_ms": round(max(milliseconds), 1),
            "kilobytes": round(responses[0][1] / 1000),
            "goal_ms": CASE_GOAL_MS if name.startswith("case") else GOAL_MS,
        }
        rows.append(row)
        figures = f"median {row['median_ms']:7} ms   max {row['max_ms']:7} ms   {row['kilobytes']:5} kB"
        print(f"{name:<52} {figures}{'  OVER' if median > row['goal_ms'] else ''}", flush=True)
    print("\nThe slowest of each kind:")
    for kind, group in groupby(rows, key=lambda row: re.split(r"[,:]| (?=[a-z_]+=)", row["page"])[0]):
        of_kind = list(group)
        slowest = max(of_kind, key=lambda row: float(row["median_ms"]))
        print(f"{kind:<16} {len(of_kind):3} addresses   median {slowest['median_ms']:7} ms   {slowest['page']}")
    over = [row["page"] for row in rows if row["median_ms"] > row["goal_ms"]]
    print(f"{len(rows)} addresses, {len(over)} over their goal.")
    return rows


if __name__ == "__main__":
    main()
