"""Building blocks that know nothing of images, products or matches; every other package may use them."""
