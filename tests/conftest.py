"""What all tests share: a data folder of their own and no setting of the machine they run on."""

import os
import tempfile
from pathlib import Path

# Before Django reads its settings: the tests depend on nothing in the environment or in .env.
for name in [n for n in os.environ if n.startswith(("CLIP_", "DJANGO_", "CELERY_", "CATALOGMATCH_"))]:
    if name not in {"DJANGO_SETTINGS_MODULE"}:
        del os.environ[name]
_data_dir = tempfile.TemporaryDirectory(prefix="catalogmatch-tests-")
os.environ |= {
    "CATALOGMATCH_ENV_FILE": os.devnull,
    "CATALOGMATCH_DATA_DIR": _data_dir.name,
    "DJANGO_DEBUG": "0",
    "DJANGO_SECRET_KEY": "for the tests only",
    "CLIP_CACHE_DIR": str(Path(_data_dir.name) / "models"),
    "HF_HUB_OFFLINE": "1",
    "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
}
