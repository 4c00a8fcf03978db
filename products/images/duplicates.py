"""Find products that have the same images, by the hashes of the uploaded files."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Count

from products.models import Product, ProductImage


def find_product_with_images(hashes: Collection[str], **fields: str) -> Product | None:
    """Return the oldest product that has all these images, and these values in its fields."""
    shared = Product.objects.filter(images__sha256__in=hashes, **fields).annotate(shared=Count("images")).order_by("pk")
    return shared.filter(shared=len(hashes)).first()


def find_other_product(product: Product, hashes: Collection[str]) -> int | None:
    """Return the id of the oldest other product that has one of these images."""
    others = ProductImage.objects.filter(sha256__in=hashes).exclude(product=product)
    return others.order_by("product_id").values_list("product_id", flat=True).first()
