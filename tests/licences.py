"""List the licences of the packages that requirements.txt installs: python -m tests.licences

Exits with 1 if pyproject.toml does not allow one of them. Reads the installed packages, so install them first.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("requirements.txt", "requirements-postgres.txt")

# Wheels carry these inside and do not name their licence in the metadata.
_GPL_LIBRARY = re.compile(r"libx26[45]\b")
_VAGUE = "Other/Proprietary License"


@dataclass(frozen=True)
class Rules:
    """``allow``: names of licences. ``exceptions``: a reason by name of package."""

    allow: frozenset[str]
    exceptions: dict[str, str]

    def permit(self, licence: str) -> bool:
        """Return whether a name or an SPDX expression without parentheses is allowed."""
        return licence in self.allow or any(
            all(part in self.allow for part in choice.split(" AND ")) for choice in licence.split(" OR ")
        )


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str
    gpl_library: str = ""

    def refusal(self, rules: Rules) -> str:
        """Return why the rules refuse the package, or "" if they allow it."""
        if self.name in rules.exceptions:
            return ""
        if self.gpl_library:
            return f"{self.name} bundles {self.gpl_library}, which is under the GPL"
        return "" if rules.permit(self.licence) else f"{self.name} has the licence {self.licence}"


def load_rules() -> Rules:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["catalogmatch"]["licences"]
    return Rules(frozenset(table["allow"]), table["exceptions"])


def read_requirements(paths: Iterable[Path]) -> Iterator[Requirement]:
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.partition(" #")[0].strip()
            if text and not text.startswith(("#", "-")):
                yield Requirement(text)


def installed(requirements: Iterable[Requirement]) -> list[Package]:
    """Return these packages and all that they depend on, in the order of their names."""
    found: dict[tuple[str, frozenset[str]], Package] = {}
    waiting = [one for one in requirements if _applies(one)]
    while waiting:
        one = waiting.pop()
        extras = frozenset(one.extras)
        key = (canonicalize_name(one.name), extras)
        if key in found:
            continue
        try:
            package = distribution(one.name)
        except PackageNotFoundError:
            found[key] = Package(key[0], "-", "unknown: it is not installed")
            continue
        found[key] = _describe(key[0], package)
        waiting += [needed for needed in map(Requirement, package.requires or ()) if _applies(needed, extras)]
    return sorted(set(found.values()), key=lambda package: package.name)


def _applies(requirement: Requirement, extras: Iterable[str] = ()) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _describe(name: str, package: Distribution) -> Package:
    def field(key: str) -> list[str]:
        return package.metadata.get_all(key) or []

    classifiers = [text.split(" :: ") for text in field("Classifier")]
    licence = (
        "".join(field("License-Expression"))
        or " AND ".join(text for kind, *_, text in classifiers if kind == "License" and text != _VAGUE)
        or "".join(field("License")).partition("\n")[0]
        or "unknown"
    )
    bundled = [file.name for file in package.files or () if _GPL_LIBRARY.match(file.name)]
    return Package(name, package.version, licence, bundled[0] if bundled else "")


def main() -> int:
    rules = load_rules()
    packages = installed(read_requirements(ROOT / name for name in REQUIREMENTS))
    for package in packages:
        note = f"  ({rules.exceptions[package.name]})" if package.name in rules.exceptions else ""
        print(f"{package.name:<28} {package.version:<16} {package.licence}{note}")
    refused = [reason for package in packages if (reason := package.refusal(rules))]
    for reason in refused:
        print(f"Not allowed by pyproject.toml: {reason}.", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
