"""The catalogue: products, their images and features, and the embedding queue."""
