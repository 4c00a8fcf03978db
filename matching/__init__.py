"""Match new products with the catalogue: similarity, index, matches and review."""
