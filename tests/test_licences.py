"""`make licences`: which licences the installed packages have, and which of them are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import licences

RULES = licences.Rules(frozenset({"MIT", "Apache-2.0"}), {"excepted": "for a reason"})


def install(folder: Path, name: str, *fields: str, file: str = "") -> None:
    """Put a package into ``folder``: its metadata and one empty file."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *fields]
    (information / "METADATA").write_text("\n".join(metadata) + "\n")
    if file:
        (folder / file).parent.mkdir()
        (folder / file).touch()
        (information / "RECORD").write_text(f"{file},,\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def refusals(*requirements: str) -> list[str]:
    found = licences.installed(map(Requirement, requirements))
    return [reason for package in found if (reason := package.refusal(RULES))]


def test_every_package_that_the_program_needs_is_allowed():
    assert licences.main() == 0


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True), ("MIT AND Apache-2.0", True), ("GPL-3.0-only OR MIT", True), ("GPL-3.0-only", False),
        ("MIT AND GPL-2.0-only", False), ("MIT AND GPL-2.0-only OR Apache-2.0", True), ("unknown", False),
    ],
)  # fmt: skip
def test_an_expression_is_allowed_if_one_choice_is_allowed_in_full(licence, allowed):
    assert RULES.permit(licence) is allowed


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        (["License-Expression: MIT", "License: other"], "MIT"),
        (["Classifier: License :: OSI Approved :: MIT License", "License: other"], "MIT License"),
        (["Classifier: License :: Other/Proprietary License", "License: Apache-2.0"], "Apache-2.0"),
        (["Classifier: Topic :: Utilities"], "unknown"),
    ],
)
def test_the_most_precise_field_names_the_licence(packages, fields, licence):
    install(packages, "named", *fields)
    assert [package.licence for package in licences.installed([Requirement("named")])] == [licence]


def test_dependency_with_a_forbidden_licence_is_rejected(packages):
    install(packages, "outer", "License-Expression: MIT", "Requires-Dist: inner[more]")
    install(packages, "inner", "License-Expression: MIT", 'Requires-Dist: extra; extra == "more"',
            'Requires-Dist: unused; extra == "other"')  # fmt: skip
    install(packages, "extra", "License-Expression: GPL-3.0-only")
    assert refusals("outer") == ["extra has the licence GPL-3.0-only"]


def test_bundled_gpl_library_is_rejected_whatever_the_metadata_says(packages):
    install(packages, "video", "License-Expression: MIT", file="video.libs/libx265-4883ecb5.so.217")
    assert refusals("video") == ["video bundles libx265-4883ecb5.so.217, which is under the GPL"]


def test_exception_with_a_reason_is_allowed(packages):
    install(packages, "excepted", "License-Expression: GPL-3.0-only")
    assert refusals("excepted") == []


def test_package_that_is_not_installed_is_rejected():
    assert refusals("not-installed-anywhere") == ["not-installed-anywhere has the licence unknown: it is not installed"]


def test_requirement_of_another_platform_is_left_out():
    assert licences.installed([Requirement("gone; python_version < '3'")]) == []
