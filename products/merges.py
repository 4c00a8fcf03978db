"""Where the id and the SKU of a merged product lead."""

from __future__ import annotations

from collections.abc import Collection

from products.models import Product, ProductMerge


class MovedError(Exception):
    """The product was merged into the one with the id ``product_id``."""

    def __init__(self, product_id: int) -> None:
        super().__init__(f"This product was merged into product {product_id}.")
        self.product_id = product_id


def moved_to(old_id: int) -> int | None:
    """Return the id of the product into which a product that is gone was merged, or None."""
    return ProductMerge.objects.filter(old_id=old_id).values_list("kept", flat=True).first()


def products_with_skus(skus: Collection[str]) -> dict[str, Product]:
    """Return the products with these SKUs, or with which products of these SKUs were merged."""
    found = {product.sku: product for product in Product.objects.filter(sku__in=skus)}
    merged = ProductMerge.objects.filter(old_sku__in=set(skus) - found.keys() - {""}).select_related("kept")
    return {merge.old_sku: merge.kept for merge in merged} | found


def ids_of_old_skus(text: str) -> list[int]:
    """Return the ids of some products with which one of this old SKU, in any case, was merged."""
    if not text:
        return []
    return list(ProductMerge.objects.filter(old_sku__iexact=text).values_list("kept", flat=True)[:100])


def product_with_sku(sku: str) -> Product | None:
    """Return the product with this SKU, or with which the product of this SKU was merged."""
    return products_with_skus([sku]).get(sku)
