"""Models that learn from the catalogue and from verdicts."""
