"""Create rows directly, for tests of pages and verdicts that need no real images."""

from __future__ import annotations

import uuid
from hashlib import sha256
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from matching.models import Match
from products.models import Product, ProductImage
from tests.helpers.accounts import user_in


def make_product(*states: str, is_historical: bool = False, **fields: Any) -> Product:
    """Create a product with one image per state, by default one that is ready. The files do not exist."""
    product = Product.objects.create(is_historical=is_historical, **fields)
    for position, state in enumerate(states or ("ready",)):
        name = uuid.uuid4().hex
        claim = {"claim_token": uuid.uuid4(), "claimed_at": timezone.now()} if state == "claimed" else {}
        ProductImage.objects.create(
            product=product, file=f"pictures/{name[:2]}/{name}.jpg", sha256=sha256(name.encode()).hexdigest(),
            width=100, height=80, position=position, state=state,
            error_code="image_corrupt" if state == "failed" else "",
            error_message="The file is damaged." if state == "failed" else "", **claim,
        )  # fmt: skip
    return product


def make_match(product: Product, candidate: Product, score: float = 80.0, **fields: Any) -> Match:
    """Create a match, by default a pending one."""
    kind = {"feature_type": "legacy", "model_name": "legacy-1", "rank": 1}
    return Match.objects.create(product=product, candidate=candidate, similarity_score=score, **kind, **fields)


def make_case(*scores: float, **fields: Any) -> tuple[Product, list[Match]]:
    """Create a new product and a match of each score, each with its own historical product."""
    product = make_product(name="arrival", **fields)
    matches = [
        make_match(product, make_product(is_historical=True, name=f"candidate {score:g}"), score) for score in scores
    ]
    return product, matches


def browser_of(user: str | User) -> Client:
    """Return a client that is signed in to the admin as this user, or as a user in this role."""
    client = Client()
    client.force_login(user_in(user) if isinstance(user, str) else user)
    return client


def save_product(product: Product, **changes: Any) -> Any:
    """Post the product's admin form with these changes as an uploader, without those that are None."""
    fields: dict[str, Any] = {
        "sku": product.sku, "name": product.name, "category": "", "description": "", "attributes": "{}",
        "features-TOTAL_FORMS": 0, "features-INITIAL_FORMS": 0,
        "images-TOTAL_FORMS": product.images.count(), "images-INITIAL_FORMS": product.images.count(),
    }  # fmt: skip
    for number, image in enumerate(product.images.all()):
        fields |= {f"images-{number}-id": image.pk, f"images-{number}-product": product.pk}
    posted = {name: value for name, value in (fields | changes).items() if value is not None}
    return browser_of("uploader").post(f"/admin/products/product/{product.pk}/change/", posted)
