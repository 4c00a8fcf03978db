"""For operators: backup, checks, health, logs and metrics."""
