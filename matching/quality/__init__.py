"""Measure the answers: against decisions, and by questions about the catalogue whose answers are known."""
