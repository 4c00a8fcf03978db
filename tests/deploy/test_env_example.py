""".env.example lists the settings of docs/configuration.md in the same order, with the same defaults."""

from __future__ import annotations

import re

from tests.helpers.installations import REPO

HEAD = """\
# The settings of CatalogMatch and their defaults. Copy what you change to .env, without the # before it.
# docs/configuration.md explains them. compose.yaml sets addresses, HTTPS and production mode itself.
# `sh deploy/secrets.sh` adds new secrets to .env.
"""


def default_of(cell: str) -> str:
    """Return a default of the tables as a value. A default in words, such as "number of cores", is none."""
    if literal := re.match(r"`([^`]*)`", cell):
        return literal[1]
    return "0" if cell == "off" else cell if cell.isdecimal() else ""


def rendered() -> str:
    """Return .env.example as the tables of the documentation say it."""
    text = (REPO / "docs/configuration.md").read_text("utf-8").partition("## Fixed limits")[0]
    lines = [HEAD]
    for section in text.split("\n## ")[1:]:
        with_default = "| setting | default |" in section
        rows = re.findall(r"^\| `([A-Z][A-Z_]+)` \| ([^|]*) \|", section, re.MULTILINE)
        if rows:
            lines.append(f"# {section.partition(chr(10))[0]}")
            lines += [f"# {name}={default_of(cell) if with_default else ''}" for name, cell in rows]
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def test_env_example_is_what_the_documentation_says() -> None:
    assert (REPO / ".env.example").read_text("utf-8") == rendered()


def test_all_settings_that_the_program_reads_are_documented() -> None:
    code = [*(REPO / "catalogmatch").rglob("*.py"), *REPO.glob("compose*.yaml"), REPO / "deploy/entrypoint.sh"]
    text = "\n".join(path.read_text("utf-8") for path in code)
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', text)) | set(re.findall(r"\$\{([A-Z_]+):[-?]", text))
    documented = set(re.findall(r"^# ([A-Z_]+)=", rendered(), re.MULTILINE))
    assert len(read) > 30
    assert read <= documented
