"""The schedule learns a head each night, if the setting says so, and only a better one answers."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from catalogmatch.celery import app
from gpu.models import ModelSwitch, ModelVersion
from matching.learning import model_jobs, tasks
from matching.models import ModelJob
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.vectors import add_product, legacy_features
from tests.matching.learning.test_heads import VIEWS, photographs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def hour(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[int]:
    """Return the hour of the clock, 2 at night, to be changed. Turn the setting on."""
    settings.TRAIN_NIGHTLY = True
    hours = [2]
    monkeypatch.setattr(
        timezone, "localtime", lambda: datetime(2026, 11, 25, hours[0], tzinfo=timezone.get_default_timezone())
    )
    return hours


def learned() -> list[str]:
    """Run the task and do the job that it started. Return the states of all nightly jobs."""
    tasks.learn_nightly()
    for job in ModelJob.objects.filter(state="running", user=None):
        assert run("run_model_job", job.pk).code == 0
    return list(ModelJob.objects.filter(user=None).values_list("state", flat=True))


def test_better_head_answers_after_the_night() -> None:
    for of_one in photographs():
        add_product(*of_one[:VIEWS])
    assert learned() == ["done"]
    assert ModelSwitch.objects.get().version == ModelVersion.objects.get().name
    assert learned() == ["done"]  # once a night
    ModelJob.objects.update(created_at=timezone.now() - timedelta(hours=24))
    assert learned() == ["done", "done"]
    assert ModelSwitch.objects.count() == 1  # nothing is new, so nothing changes


def test_head_that_does_not_win_stays_in_the_shadow() -> None:
    for number in range(25):
        add_product(*legacy_features(2, seed=number))
    assert learned() == ["done"]
    assert ModelJob.objects.get().report["adopted"] is False
    assert not ModelSwitch.objects.exists()


def test_day_and_the_setting_off_learn_nothing(hour: list[int], settings: Settings) -> None:
    hour[0] = 14
    assert learned() == []
    hour[0] = 2
    settings.TRAIN_NIGHTLY = False
    assert learned() == []


def test_too_little_to_learn_from_is_kept_as_the_reason() -> None:
    assert learned() == ["failed"]
    assert "have two images or more" in ModelJob.objects.get().error


def test_job_of_a_user_goes_first() -> None:
    running = ModelJob.objects.create(kind="compare", user=user_in("manager"))
    assert learned() == []
    assert model_jobs.stop(running)
    assert learned() == ["failed"]


def test_workers_know_the_task() -> None:
    app.loader.import_default_modules()
    assert "matching.learning.tasks.learn_nightly" in app.tasks
