"""Which product is it: similarity, the search index, matches and verdicts."""
