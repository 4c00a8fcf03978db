"""Django configuration of the PostgreSQL search engine, installed only if the database is PostgreSQL."""

from django.apps import AppConfig


class PgvectorConfig(AppConfig):
    name = "matching.pgvector"
    label = "matching_pgvector"
    verbose_name = "Search in PostgreSQL"
