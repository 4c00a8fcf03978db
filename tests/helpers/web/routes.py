"""All routes of the program, and addresses of real rows for them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import URLPattern, URLResolver, get_resolver

from catalogmatch.accounts.models import Token
from matching.models import Match, ModelJob
from products.models import Deletion, Import, Product, ProductImage
from tests.helpers.sample_images import jpeg

PICTURE = "pictures/00/" + 32 * "0" + ".jpg"
LEARNED = {
    "version": "head-1", "made_of": ["legacy-1"], "compared_with": "legacy-1", "before": {"recall@1": 0.5},
    "after": {"recall@1": 0.6}, "views": 90, "products": 30, "wins": True, "adopted": False, "seconds": 1.5,
}  # fmt: skip
Ids = dict[str, object]  # the id of a row by the prefix of the routes that need it


# Django lists the apps in the order in which their admin modules were imported.
APP_LABELS = "^(?P<app_label>auth|products|matching)/$"


def all_routes() -> list[str]:
    """Return the routes of the program, those of the admin's apps always as APP_LABELS."""
    routes = _routes(get_resolver().url_patterns)
    return [re.sub(r"\^\(\?P<app_label>[a-z|]+\)/\$", lambda _match: APP_LABELS, route) for route in routes]


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route


def make_rows(jobs_of: User) -> Ids:
    """Create one object of each type; the jobs belong to this user. Return their ids."""
    product, candidate = Product.objects.create(sku="N-1"), Product.objects.create(sku="H-1", is_historical=True)
    ProductImage.objects.create(product=product, file=PICTURE, sha256=64 * "0", width=96, height=96)
    default_storage.save(PICTURE, ContentFile(jpeg(1)))
    match = Match.objects.create(product=product, candidate=candidate, similarity_score=90, rank=1)
    other = User.objects.create_user("colleague")
    token = Token.objects.create(user=other, digest="0")
    return {
        "api/matches": match.pk,
        "admin/matching/match/case": product.pk,
        "admin/matching": match.pk,
        "admin/products/product/import": Import.objects.create(user=jobs_of, state="done").pk,
        "admin/products/product/deletion": Deletion.objects.create(user=jobs_of, label="products.Product", total=1).pk,
        "admin/models/jobs": ModelJob.objects.create(kind="train", state="done", report=LEARNED).pk,
        "admin/auth/user": other.pk,
        "admin/tokens/of": other.pk,
        "admin/sign-out": other.pk,
        "admin/tokens": token.pk,
        "admin/auth/group": Group.objects.get(name="viewer").pk,
        "admin/r": 1,
        "api/<path:rest>": "nothing",
        "": product.pk,
    }


def address(route: str, ids: Ids) -> str:
    """Fill the placeholders of a route."""
    if route.startswith("^media"):
        return f"/media/{PICTURE}"
    value = next(value for prefix, value in ids.items() if route.startswith(prefix))
    route = route.replace(APP_LABELS, "products/").replace("(?P<url>.*)$", "nothing")
    return "/" + re.sub(r"<[^>]+>", str(value), route)
