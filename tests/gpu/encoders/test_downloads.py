"""Model downloads: complete, with a clear error line, and at most one attempt an hour by workers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpu.encoders import downloads, weights
from tests.conftest import use_clip
from tests.gpu.encoders.test_vision_models import build
from tests.helpers.installations import REPO

NAME = "sentence-transformers/clip-ViT-B-32"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_clip):
    """Run a model hub with one model on this host. Return its address."""
    with running_hub(tiny_clip, NAME) as address:
        yield address


@contextmanager
def running_hub(folder, repository):
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{repository}"):
                if "/tree/" in path:
                    tree = [
                        {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                        for name, data in files.items()
                    ]
                    return self.respond(200, json.dumps(tree).encode(), Content_Type="application/json")
                about = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                return self.respond(200, json.dumps(about).encode(), Content_Type="application/json")
            _, _, name = path.partition(f"/resolve/{COMMIT}/")
            if name in files:
                etag = hashlib.sha256(files[name]).hexdigest()
                return self.respond(200, files[name], ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
            return self.respond(404, b"{}", X_Error_Code="RepoNotFound")

        do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def download(tmp_path, endpoint, *name, **environment):
    """Run ``manage.py download_model`` in a new process, because the address of the hub is read only once."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "CLIP_CACHE_DIR": str(tmp_path / "cache"),
                "CATALOGMATCH_DATA_DIR": str(tmp_path / "var"), "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
    return subprocess.run(
        [sys.executable, "manage.py", "download_model", *name],
        cwd=REPO, env=os.environ | settings | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_weights_are_downloaded_completely_and_found_by_name(hub, settings, tmp_path):
    finished = download(tmp_path, hub)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("clip-ViT-B-32: 512 dimensions")
    use_clip(settings, "clip-ViT-B-32", tmp_path / "cache")
    assert weights.find_weights().embedding_dim == 512


def test_vision_model_of_transformers_is_downloaded(settings, tmp_path):
    build("siglip", tmp_path / "model")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"the same weights again")
    with running_hub(tmp_path / "model", "google/siglip-tiny") as address:
        finished = download(tmp_path, address, "google/siglip-tiny")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("google/siglip-tiny: 32 dimensions")
    use_clip(settings, "google/siglip-tiny", tmp_path / "cache")
    assert weights.find_weights().format == "transformers"
    assert not (weights.find_weights().folder / "pytorch_model.bin").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such-model", "has no model"), ("a b", "not the name of a model"), ("/no/such/folder", "does not exist")],
)
def test_unknown_model_name_is_reported_in_one_line(name, message, hub, tmp_path):
    finished = download(tmp_path, hub, name)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_unreachable_hub_is_reported_in_one_line(tmp_path):
    finished = download(tmp_path, "http://127.0.0.1:9")
    assert finished.returncode == 1
    assert finished.stderr.startswith("CommandError: The model hub cannot be reached")
    assert finished.stderr.count("\n") == 1


def test_read_only_cache_folder_is_reported_in_one_line(hub, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    finished = download(tmp_path, hub)
    assert finished.returncode == 1
    assert "cannot be written" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_worker_retries_a_download_once_an_hour_and_reports_the_failure(settings, tmp_path, monkeypatch):
    from gpu.encoders.registry import clip_status

    settings.DATA_DIR = tmp_path
    use_clip(settings, "clip-ViT-B-32", tmp_path / "cache")
    tries: list[str] = []

    def no_network(name, cache):
        tries.append(name)
        raise downloads.DownloadError("The model hub cannot be reached: no route to host")

    monkeypatch.setattr(downloads, "_fetch", no_network)
    downloads.ensure_weights()
    downloads.ensure_weights()
    assert len(tries) == 1
    assert "no route to host" in str(clip_status().reason)
    later = time.time() + downloads.RETRY_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    downloads.ensure_weights()
    assert len(tries) == 2


def test_existing_weights_are_not_downloaded(with_clip, monkeypatch):
    monkeypatch.setattr(downloads, "_fetch", lambda name, cache: pytest.fail("it was fetched"))
    downloads.ensure_weights()
    assert downloads.download_model().folder == with_clip
