"""What is in the catalogue: products, their pictures and features, and the queue that embeds them."""
