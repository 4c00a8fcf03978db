"""The web process starts and accepts uploads without loading the libraries of a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from django.conf import settings

from tests.helpers.sample_images import jpeg

HEAVY = ["torch", "faiss", "sentence_transformers", "transformers", "onnxruntime"]

SCRIPT = """
import json, sys
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
loaded = lambda: sorted(set(sys.modules) & set(HEAVY))
started = loaded()

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from rest_framework.test import APIClient
from catalogmatch.accounts.roles import give_role
from catalogmatch.accounts.tokens import issue_token

call_command("migrate", verbosity=0)
user = User.objects.create_user("program")
give_role(user, "manager")
client = APIClient()
client.credentials(HTTP_AUTHORIZATION=f"Token {issue_token(user)}")

def upload(sku, historical):
    image = SimpleUploadedFile("image.jpg", open(IMAGE, "rb").read(), "image/jpeg")
    form = {"image": image, "sku": sku, "is_historical": historical}
    return client.post("/api/products/upload", form, format="multipart").json()

old, new = upload("OLD", "true"), upload("NEW", "false")
matches = client.post(f"/api/products/{new['product_id']}/match").json()["matches"]
pages = [client.get(path).status_code for path in ("/api/gpu/status", "/api/clip/info", "/api/queue", "/readyz")]
print(json.dumps({"started": started, "uploaded": [old, new], "matches": matches, "pages": pages, "after": loaded()}))
"""


def test_start_upload_and_matching_load_no_model_libraries(tmp_path):
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg(1))
    env = os.environ | {"CATALOGMATCH_DATA_DIR": str(tmp_path / "var"), "DJANGO_ALLOWED_HOSTS": "testserver"}
    script = f"HEAVY, IMAGE = {HEAVY!r}, {str(image)!r}\n{SCRIPT}"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=settings.BASE_DIR, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    output = json.loads(ran.stdout.splitlines()[-1])
    assert output["started"] == []
    assert [upload["feature_type"] for upload in output["uploaded"]] == ["legacy", "legacy"]
    assert output["matches"][0]["sku"] == "OLD"
    assert output["pages"] == [200, 200, 200, 200]
    assert output["after"] == []
