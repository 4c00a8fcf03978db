"""deploy/secrets.sh writes secrets, and deploy/requirements.sh says what the variants of the image install."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.installations import REPO
from tests.licences import installed, read_requirements

MODEL_LIBRARIES = {"torch", "sentence-transformers", "transformers", "onnx", "onnxruntime"}


def script(name: str, *arguments: str, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", REPO / "deploy" / name, *arguments], cwd=cwd, capture_output=True, text=True)


def names(text: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)(?:\[\w+\])?==", text, re.MULTILINE))


def test_secrets_are_long_different_and_kept(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_PASSWORD=\nDJANGO_SECRET_KEY=of the demo")
    assert script("secrets.sh", cwd=tmp_path).returncode == 0
    written = (tmp_path / ".env").read_text()
    settings = dict(line.split("=", 1) for line in written.splitlines() if line)
    assert written.count("REDIS_PASSWORD=") == 1
    assert settings["DJANGO_SECRET_KEY"] == "of the demo"
    assert settings["POSTGRES_PASSWORD"] != settings["REDIS_PASSWORD"]
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert re.fullmatch(r"[0-9a-f]{64}", settings[name])
    assert script("secrets.sh", cwd=tmp_path).returncode == 0
    assert (tmp_path / ".env").read_text() == written


def test_new_file_of_secrets_is_closed_to_others(tmp_path: Path) -> None:
    script("secrets.sh", cwd=tmp_path)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert len(re.findall(r"^\w+=[0-9a-f]{64}$", (tmp_path / ".env").read_text(), re.MULTILINE)) == 3


def test_variants_install_the_pinned_requirements() -> None:
    everything = names((REPO / "requirements.txt").read_text() + (REPO / "requirements-postgres.txt").read_text())
    cpu, cuda, web = (script("requirements.sh", variant).stdout for variant in ("cpu", "cuda", "web"))
    assert names(cpu) == names(cuda) == everything
    assert everything - names(web) == MODEL_LIBRARIES
    assert cpu.startswith("--extra-index-url https://download.pytorch.org/whl/cpu\n")
    assert "index-url" not in cuda + web


def test_another_build_of_torch_comes_from_its_index() -> None:
    text = script("requirements.sh", "cuda", "https://packages.example/rocm").stdout
    assert text.startswith("--extra-index-url https://packages.example/rocm\n")


def test_unknown_variant_is_refused() -> None:
    refused = script("requirements.sh", "gpu")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == 'The variant is cpu, cuda or web, not "gpu".\n'


PAGES = """
import importlib.util, json
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from catalogmatch.celery import app

call_command("migrate", verbosity=0)
call_command("check")
app.loader.import_default_modules()  # as beat does
client = Client()
client.force_login(User.objects.create_superuser("admin"))
paths = ["/admin/", "/admin/device/", "/admin/products/product/", "/api/gpu/status", "/api/clip/info", "/api/queue"]
print(json.dumps({
    "pages": {path: client.get(path).status_code for path in paths},
    "found": [name for name in LIBRARIES if importlib.util.find_spec(name)],
}))
"""


@pytest.fixture(scope="module")
def web_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what pip installs into the web variant, and nothing else."""
    from importlib.metadata import distribution

    folder = tmp_path_factory.mktemp("web")
    wanted = folder / "wanted.txt"
    wanted.write_text(script("requirements.sh", "web").stdout)
    packages = folder / "packages"
    packages.mkdir()
    for package in installed(read_requirements([wanted])):
        found = distribution(package.name)
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            link = packages / name
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(name))))
    return packages


def test_web_variant_serves_its_pages_without_the_libraries_of_models(web_packages: Path, tmp_path: Path) -> None:
    libraries = sorted(name.replace("-", "_") for name in MODEL_LIBRARIES)
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{web_packages}:{REPO}",
        "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
        "CATALOGMATCH_ENV_FILE": os.devnull,
        "CATALOGMATCH_DATA_DIR": str(tmp_path / "data"),
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "DJANGO_DEBUG": "1",  # for pages without collected static files
        "DJANGO_ALLOWED_HOSTS": "testserver",
    }
    # The interpreter below the virtual environment, which sees none of its packages.
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    ran = subprocess.run(
        [python, "-c", f"LIBRARIES = {libraries!r}\n{PAGES}"], env=env, cwd=REPO, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert result["found"] == []
    assert set(result["pages"].values()) == {200}, result
