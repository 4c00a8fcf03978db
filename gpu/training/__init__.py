"""Train an image encoder. Knows no products: images have labels."""
