"""The Celery task that learns a head each night."""

from __future__ import annotations

from celery import shared_task

from matching.learning import model_jobs


@shared_task(name="matching.learning.tasks.learn_nightly")
def learn_nightly() -> None:
    """Start to learn a head in a process of its own, if the setting says so and none was learned this night."""
    model_jobs.start_nightly()
