"""The CatalogMatch project: settings, urls, Celery and health. The Celery app is loaded with Django."""

from catalogmatch.celery import app as celery_app

__all__ = ["celery_app"]
