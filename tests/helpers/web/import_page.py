"""Use the import page like a browser: send files, read the preview, confirm."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.utils import ContextList

from tests.helpers.jobs import wait_for_jobs

IMPORT = "/admin/products/product/import/"

Files = Mapping[str, bytes | str]  # content by name


def zipped(files: Files) -> bytes:
    """Return a ZIP of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class ImportPage:
    """An upload to the import page, and the page of the import."""

    def __init__(self, browser: Client, files: Files, **fields: str) -> None:
        self.browser = browser
        uploads = [
            SimpleUploadedFile(name, data.encode() if isinstance(data, str) else data) for name, data in files.items()
        ]
        self.response: Any = browser.post(IMPORT, {"files": uploads, **fields})
        self.page = self.response.headers.get("Location", "")
        wait_for_jobs()

    @property
    def error(self) -> str:
        """The error message for files that were rejected as a whole."""
        assert self.response.status_code == 422
        return str(self.response.context["error"])

    def confirm(self) -> ImportPage:
        self.browser.post(f"{self.page}run/")
        wait_for_jobs()
        return self

    def fetch_again(self) -> ImportPage:
        """Fetch the images again that could not be fetched."""
        self.browser.post(f"{self.page}fetch/")
        wait_for_jobs()
        return self

    def group_views(self, group: bool) -> ImportPage:
        """Take files as views of a product by their names, or each as a product."""
        self.browser.post(f"{self.page}views/", {"group": "1"} if group else {})
        wait_for_jobs()
        return self

    def undo_plan(self) -> Any:
        """Return what the page would take back."""
        response = self.browser.get(f"{self.page}undo/")
        assert response.status_code == 200
        return response.context["plan"]

    def undo(self) -> ImportPage:
        """Take the import back."""
        self.browser.post(f"{self.page}undo/")
        wait_for_jobs()
        return self

    def context(self, kind: str = "", page: int = 1) -> ContextList:
        """Return the template context of the page with the rows of one status."""
        response = self.browser.get(self.page, {"kind": kind, "page": str(page)})
        assert response.status_code == 200
        return response.context  # type: ignore[return-value]  # the page uses several templates

    def counts(self) -> dict[str, int]:
        """Return the number of rows by status, without zeros."""
        return {one["name"]: one["count"] for one in self.context()["kinds"] if one["count"]}

    def reasons(self) -> dict[int, str]:
        """Return the reasons of rejected rows by row number."""
        return {row["row"]: row["reason"] for row in self.context("REJECTED")["rows"]}

    def rejected_rows(self) -> list[dict[str, str]]:
        """Return the rejected rows from the CSV file for corrections."""
        response = self.browser.get(f"{self.page}refused.csv")
        return list(csv.DictReader(io.StringIO(response.getvalue().decode("utf-8-sig"))))
