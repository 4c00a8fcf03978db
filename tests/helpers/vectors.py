"""Create products with given features, for tests of the search index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from gpu.vectors import LEGACY, LEGACY_MODEL, Features
from products.models import Feature, Product, ProductImage

MODEL = "test-model"
DIM = 32


def random_vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Return (n, dim) random unit vectors, float32."""
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def embeddings(vectors: Iterable[np.ndarray], model: str = MODEL) -> list[Features]:
    return [Features.from_embedding(vector, model) for vector in vectors]


def legacy_features(n: int, seed: int = 0) -> list[Features]:
    rng = np.random.default_rng(seed)
    return [
        Features(
            LEGACY,
            LEGACY_MODEL,
            rng.integers(0, 256, 256).astype(np.uint8),
            rng.normal(size=7).astype(np.float32),
            rng.integers(0, 256, 256).astype(np.uint8),
        )
        for _ in range(n)
    ]


def add_image(product: Product, number: int = 0) -> ProductImage:
    digest = hashlib.sha256(f"{product.pk} {number}".encode()).hexdigest()
    return ProductImage.objects.create(
        product=product, file=f"pictures/{digest}.jpg", sha256=digest, width=64, height=64, state="ready"
    )


def add_feature(image: ProductImage, features: Features) -> Feature:
    return Feature.objects.create(product=image.product, image=image, **Feature.columns(features))


def add_product(*features_of_images: Features, historical: bool = True, category: str = "") -> Product:
    """Create a product with one image per features."""
    product = Product.objects.create(is_historical=historical, category=category)
    for number, features in enumerate(features_of_images):
        add_feature(add_image(product, number), features)
    return product


def add_products(features: Iterable[Features], historical: bool = True, category: str = "") -> list[Product]:
    """Create many products with one image each."""
    parts = list(features)
    products = Product.objects.bulk_create(
        [Product(is_historical=historical, category=category) for _ in parts], batch_size=1000
    )
    images = ProductImage.objects.bulk_create(
        [
            ProductImage(
                product=product,
                file=f"pictures/{product.pk}.jpg",
                sha256=hashlib.sha256(str(product.pk).encode()).hexdigest(),
                width=64,
                height=64,
                state="ready",
            )
            for product in products
        ],
        batch_size=1000,
    )
    Feature.objects.bulk_create(
        [
            Feature(product=product, image=image, **Feature.columns(part))
            for product, image, part in zip(products, images, parts, strict=True)
        ],
        batch_size=1000,
    )
    return products


def exact_scores(query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return (n,) scores of 0 to 100 by the documented formula."""
    return np.clip(100 * (vectors.astype(np.float64) @ query.astype(np.float64)), 0, 100)
