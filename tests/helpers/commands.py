"""Run management commands and return exit code, stdout and stderr, as in a shell."""

from __future__ import annotations

import io
from dataclasses import dataclass

from django.core.management import call_command
from django.core.management.base import CommandError


@dataclass(frozen=True, slots=True)
class CommandResult:
    code: int
    out: str
    err: str


def run(*args: object) -> CommandResult:
    """Run a command in this process. A CommandError becomes the exit code and the last line of stderr."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*map(str, args), stdout=out, stderr=err)
    except CommandError as error:
        return CommandResult(error.returncode, out.getvalue(), f"{err.getvalue()}{error}\n")
    return CommandResult(0, out.getvalue(), err.getvalue())
