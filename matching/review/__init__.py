"""Review: which case comes next, who holds it, and what people decide."""
