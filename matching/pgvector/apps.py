"""Django configuration of the PostgreSQL engine, installed only with that database."""

from django.apps import AppConfig


class PgvectorConfig(AppConfig):
    name = "matching.pgvector"
    label = "matching_pgvector"
    verbose_name = "Search in PostgreSQL"
