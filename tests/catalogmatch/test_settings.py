"""The settings: read from the environment, with safe defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.installations import REPO


def python(code: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code with the project's settings and only these environment variables."""
    clean = {"PATH": os.environ["PATH"], "CATALOGMATCH_DATA_DIR": str(folder), "CATALOGMATCH_ENV_FILE": os.devnull}
    script = f"from catalogmatch import settings\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script], env=clean | env, cwd=REPO, capture_output=True, text=True, check=False
    )


def value(expression: str, folder: Path, **env: str) -> str:
    result = python(f"print({expression})", folder, **{"DJANGO_SECRET_KEY": "k", **env})
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_program_refuses_to_start_without_a_secret_key(tmp_path: Path) -> None:
    refused = python("", tmp_path)
    assert refused.returncode != 0
    assert "DJANGO_SECRET_KEY is not set" in refused.stderr
    assert python("", tmp_path, DJANGO_DEBUG="1").returncode == 0


@pytest.mark.parametrize(
    ("expression", "env", "expected"),
    [
        ("DEBUG", {}, "False"),
        ("CELERY_TASK_ALWAYS_EAGER", {}, "True"),
        ("CELERY_TASK_ALWAYS_EAGER", {"CELERY_BROKER_URL": "redis://localhost/0"}, "False"),
        ("ALLOWED_HOSTS", {"DJANGO_ALLOWED_HOSTS": "shop.example,api.example"}, "['shop.example', 'api.example']"),
        ("DATABASES['default']['OPTIONS']['transaction_mode']", {}, "IMMEDIATE"),
        ("DATABASES['default']['ENGINE']", {"DATABASE_URL": "postgres://u@h/d"}, "django.db.backends.postgresql"),
        ("CLIP_CONFIG['model_name']", {}, "clip-ViT-B-32"),
        ("CLIP_CONFIG['model_name']", {"CLIP_MODEL": "clip-ViT-L-14"}, "clip-ViT-L-14"),
        ("CLIP_CONFIG['batch_size']", {}, "None"),
        ("CLIP_CONFIG['batch_size']", {"CLIP_BATCH_SIZE": "8"}, "8"),
        ("CLIP_CONFIG['force_cpu']", {"CLIP_FORCE_CPU": "1"}, "True"),
        ("CLIP_CONFIG['backend']", {"CLIP_BACKEND": "onnx-int8"}, "onnx-int8"),
        ("CLIP_CONFIG['debug']", {"CLIP_DEBUG": "1"}, "True"),
        ("SESSION_COOKIE_SECURE", {"DJANGO_HTTPS": "1"}, "True"),
    ],
)
def test_setting_is_read_from_the_environment(
    tmp_path: Path, expression: str, env: dict[str, str], expected: str
) -> None:
    assert value(f"settings.{expression}", tmp_path, **env) == expected


def test_settings_are_read_from_an_env_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DJANGO_SECRET_KEY=from-a-file\nCLIP_BATCH_SIZE=4\n")
    result = python(
        "print(settings.SECRET_KEY, settings.CLIP_CONFIG['batch_size'])",
        tmp_path,
        CATALOGMATCH_ENV_FILE=str(tmp_path / ".env"),
    )
    assert result.stdout.split() == ["from-a-file", "4"]


def test_all_written_files_are_in_the_data_folder(tmp_path: Path) -> None:
    assert value("settings.DATABASES['default']['NAME']", tmp_path) == str(tmp_path / "catalogmatch.sqlite3")
    assert value("settings.MEDIA_ROOT", tmp_path) == str(tmp_path / "media")


def test_clip_config_has_all_documented_keys(tmp_path: Path) -> None:
    keys = {"model_name", "batch_size", "force_cpu", "cache_dir", "device_priority"}
    assert value(f"{keys!r} <= set(settings.CLIP_CONFIG)", tmp_path) == "True"


def test_installation_behind_https_passes_djangos_deployment_check(tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "CATALOGMATCH_DATA_DIR": str(tmp_path),
        "CATALOGMATCH_ENV_FILE": os.devnull,
        "DJANGO_SECRET_KEY": "a-long-secret-" * 5 + "0123456789",
        "DJANGO_HTTPS": "1",
        "DJANGO_ALLOWED_HOSTS": "shop.example",
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    result = subprocess.run(command, env=env, cwd=REPO, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
