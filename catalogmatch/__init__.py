"""The Django project: settings, URLs and Celery. Importing it loads the Celery app."""

from catalogmatch.celery import app as celery_app

__all__ = ["celery_app"]
