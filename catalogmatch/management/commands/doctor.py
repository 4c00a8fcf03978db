"""doctor: print OK, WARN or FAIL for each part of the installation, and what to do."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalogmatch.operations.doctor import Level, examine


class Command(BaseCommand):
    help = "Check every part of the installation and say what to do. Exit code 1 if a part fails."
    requires_system_checks = []

    def handle(self, **_: Any) -> None:
        styles = {Level.OK: self.style.SUCCESS, Level.WARN: self.style.WARNING, Level.FAIL: self.style.ERROR}
        findings = examine()
        for part, finding in findings.items():
            text = f"{finding.text.removesuffix('.')}. {finding.remedy}".rstrip()
            self.stdout.write(f"{styles[finding.level](f'{finding.level:4}')}  {part:9} {text}")
        failed = [part for part, finding in findings.items() if finding.level is Level.FAIL]
        if failed:
            raise CommandError(f"These parts fail: {', '.join(failed)}.")
