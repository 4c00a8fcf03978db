"""Rendered products with several views, and a small encoder that can learn from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from django.conf import settings

from benchmarks.random_clip import build
from products.models import Product, ProductImage
from tests.helpers.sample_images import jpeg


def small_encoder(folder: Path, seed: int = 0) -> Path:
    """Write a CLIP with random weights for images of 56 pixels. It embeds hundreds of images a second on one core."""
    return build(folder, seed=seed, pixels=56)


def add_rendered(count: int, views: int, *, first: int = 1, historical: bool = True) -> list[Product]:
    """Add products with views that differ in angle and light. Product n is the drawing n."""
    rng = np.random.default_rng([first, historical])
    products = []
    for number in range(first, first + count):
        product = Product.objects.create(name=f"drawing {number}", category=f"C{number % 2}", is_historical=historical)
        for position in range(views):
            view = jpeg(number, angle=float(rng.uniform(-15, 15)), light=float(rng.uniform(0.5, 1.4)))
            add_image(product, view, position)
        products.append(product)
    return products


def add_image(product: Product, content: bytes, position: int = 0) -> ProductImage:
    """Store an image that waits to be embedded."""
    sha = hashlib.sha256(content).hexdigest()
    name = f"pictures/{product.pk}_{position}.jpg"
    path = Path(settings.MEDIA_ROOT) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return ProductImage.objects.create(
        product=product, file=name, sha256=sha, width=96, height=96, position=position, state="ready"
    )
