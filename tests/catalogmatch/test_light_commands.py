"""Commands and workers import only what they use: their start is what users wait for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pytest_django import Settings

from catalogmatch.operations import doctor

HEAVY = ("torch", "transformers", "psycopg", "faiss", "onnxruntime", "unfold.admin", "catalogmatch.urls")


@pytest.mark.parametrize("start", ["django.setup()", "django.setup(); from catalogmatch.operations import doctor"])
def test_start_imports_no_model_library_and_no_page(start: str) -> None:
    script = f"import sys, django; {start}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.django_db
def test_doctor_without_a_gpu_does_not_ask_torch(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"force_cpu": True}
    monkeypatch.setattr(doctor, "get_device_info", lambda: pytest.fail("this imports torch"))
    assert doctor.device() == doctor.Finding(doctor.Level.OK, "cpu: CLIP_FORCE_CPU is set.")


def test_check_still_looks_at_the_pages_of_the_admin() -> None:
    script = (
        "import django; django.setup(); from django.core import checks; from django.contrib import admin; "
        "found = checks.run_checks(tags=['admin']); print(len(found), len(admin.site._registry) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
