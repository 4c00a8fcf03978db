"""The fenced blocks of the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.installations import REPO

COMMAND_LANGUAGES = {"bash", "sh", "shell", "console", "zsh", "shell-session"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page. ``title`` is its first line."""

    page: str
    language: str
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def pages() -> list[Path]:
    return [*sorted(REPO.glob("*.md")), *sorted((REPO / "docs").rglob("*.md"))]


def blocks_of(text: str, page: str) -> list[Block]:
    """Return the fenced blocks of a page, also those inside lists."""
    found = re.findall(r"^( *)(`{3,}|~{3,})[ \t]*(\S*)[^\n]*\n(.*?)^\1\2[`~]*[ \t]*$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(page, language.lower(), re.sub(f"^{indent}", "", content, flags=re.MULTILINE))
        for indent, _, language, content in found
    ]


def all_blocks() -> list[Block]:
    return [block for path in pages() for block in blocks_of(path.read_text("utf-8"), str(path.relative_to(REPO)))]


def the_block(page: str, title: str) -> str:
    """Return the text of the only block of a page whose first line begins with ``title``."""
    [text] = [block.text for block in all_blocks() if block.page == page and block.title.startswith(title)]
    return text
