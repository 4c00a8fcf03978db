"""GTIN, MPN, brand, price and currency become columns. Attributes of these names move into them."""

from __future__ import annotations

import logging
import re
from decimal import Decimal
from typing import Any

import django.core.validators
from django.core.exceptions import ValidationError
from django.db import migrations, models

from products.attributes import ShortenedAttributes
from products.prices import parse_price

BATCH_SIZE = 1_000
SHOWN = 10
_log = logging.getLogger(__name__)
LENGTHS = {"gtin": 50, "mpn": 100, "brand": 200}


def columns() -> list[tuple[str, models.Field[Any, Any]]]:
    currency = django.core.validators.RegexValidator(
        "^[A-Za-z]{3}$", "A currency is a code of three letters, such as EUR."
    )
    texts: dict[str, Any] = {"blank": True, "default": ""}
    return [
        ("gtin", models.CharField("GTIN", max_length=50, help_text="The number below the barcode: EAN, UPC or ISBN.", **texts)),
        ("mpn", models.CharField("MPN", max_length=100, help_text="The manufacturer's part number.", **texts)),
        ("brand", models.CharField("brand", max_length=200, **texts)),
        (
            "price",
            models.DecimalField(
                "price",
                blank=True,
                decimal_places=4,
                max_digits=14,
                null=True,
                validators=[django.core.validators.MinValueValidator(0)],
            ),
        ),
        ("currency", models.CharField("currency", max_length=3, validators=[currency], **texts)),
    ]  # fmt: skip


def move_attributes(apps: Any, _schema_editor: Any) -> None:
    """Move the attributes. One that its column cannot hold stays an attribute and is named."""
    products = apps.get_model("products", "Product").objects.order_by("pk")
    left: list[str] = []
    last = 0
    while batch := list(products.filter(pk__gt=last).only("pk", "attributes")[:BATCH_SIZE]):
        changed = [product for product in batch if _move(product, left)]
        products.model.objects.bulk_update(changed, ["gtin", "mpn", "brand", "price", "currency", "attributes"])
        last = batch[-1].pk
    for line in left[:SHOWN]:
        _log.warning(line)
    if len(left) > SHOWN:
        _log.warning("and %d more attributes stay as they are.", len(left) - SHOWN)


def _move(product: Any, left: list[str]) -> bool:
    if isinstance(product.attributes, ShortenedAttributes):
        return False
    moved: dict[str, Any] = {}
    for name, value in product.attributes.items():
        column = name.strip().lower()
        if column not in {*LENGTHS, "price", "currency"}:
            continue
        found = _column_values(column, value)
        if found is None or any(getattr(product, key) not in ("", None, found[key]) for key in found):
            left.append(f"Product {product.pk} keeps its attribute {name}: {str(value)[:60]!r} fits no column.")
            continue
        for key, new in found.items():
            setattr(product, key, new)
        moved[name] = column
    product.attributes = {name: value for name, value in product.attributes.items() if name not in moved}
    return bool(moved)


def _column_values(column: str, value: Any) -> dict[str, Any] | None:
    """Return the values of the columns that hold the attribute, or None if none can."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip()
    if column == "price":
        try:
            price = parse_price(text)
        except ValidationError:
            return None
        if price.amount >= Decimal(10**10) or price.amount != round(price.amount, 4):
            return None
        return {"price": price.amount} | ({"currency": price.currency} if price.currency else {})
    if column == "currency":
        return {"currency": text.upper()} if re.fullmatch("[A-Za-z]{3}", text) else None
    if column == "gtin" and re.fullmatch(r"\d[\d \-]*", text):
        text = re.sub(r"[ \-]", "", text)
    return {column: text} if text and len(text) <= LENGTHS[column] else None


class Migration(migrations.Migration):
    dependencies = [("products", "0004_head_features")]

    operations = [
        *(
            migrations.AddField(model, name, field)
            for model in ("product", "historicalproduct")
            for name, field in columns()
        ),
        migrations.AddIndex("product", models.Index(fields=["gtin"], name="product_gtin")),
        migrations.AddIndex("product", models.Index(fields=["mpn"], name="product_mpn")),
        migrations.RunPython(move_attributes, migrations.RunPython.noop),
    ]
