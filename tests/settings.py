"""The settings of the tests: those of the project, without the environment and .env."""

import os
import tempfile
from pathlib import Path

for name in [n for n in os.environ if n.startswith(("CLIP_", "DJANGO_", "CELERY_", "CATALOGMATCH_"))]:
    if name != "CATALOGMATCH_TEST_DATA":  # only for the tests, not a setting of the program
        del os.environ[name]
_data_dir = tempfile.TemporaryDirectory(prefix="catalogmatch-tests-")
(Path(_data_dir.name) / "static").mkdir()  # the folder of collectstatic must exist
os.environ |= {
    "CATALOGMATCH_ENV_FILE": os.devnull,
    "CATALOGMATCH_DATA_DIR": _data_dir.name,
    "DJANGO_DEBUG": "0",
    "DJANGO_SECRET_KEY": "for the tests only",
    "CLIP_CACHE_DIR": str(Path(_data_dir.name) / "models"),
    "CLIP_MEASURE": "0",  # the tests of it turn it on
    "HF_HUB_OFFLINE": "1",
    "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
    # Processes that a test starts use the project's own settings.
    "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
}

from catalogmatch.settings import *  # noqa: E402, F403
from catalogmatch.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"] == "core.sqlite":
    # A file, as in production: SQLite databases in memory lock whole tables and have no WAL.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(_data_dir.name) / "tests.sqlite3")}

# Static files are not collected for the tests, so pages use their names in the source.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
