"""How dates are written, the same everywhere."""
