"""Check the licences of the needed packages and look for known vulnerabilities: python -m tests.audit

Asks OSV.dev about the installed versions of all packages that requirements.txt needs. Without a network it says so and
checks only the licences. Exits with 1 for a licence that is not allowed or a known vulnerability.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests import licences

# pip-audit reports a service that it cannot reach like a package that it does not know, so this asks first.
SERVICE = "https://api.osv.dev/v1/vulns/PYSEC-2024-47"
TIMEOUT_SECONDS = 10


def is_reachable() -> bool:
    """Return whether the vulnerability service responds."""
    try:
        with urllib.request.urlopen(SERVICE, timeout=TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 404  # the service responds, and that entry is gone
    except OSError:
        return False


def known_vulnerabilities() -> int:
    """Print the known vulnerabilities of the installed versions. Return pip-audit's exit code."""
    packages = licences.installed(licences.read_requirements(licences.ROOT / name for name in licences.REQUIREMENTS))
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        # A build such as 2.13.0+cpu is the release 2.13.0.
        pinned.write_text("".join(f"{one.name}=={one.version.partition('+')[0]}\n" for one in packages))
        options = ["--requirement", str(pinned), "--no-deps", "--disable-pip", "--vulnerability-service", "osv"]
        return subprocess.run([sys.executable, "-m", "pip_audit", *options], check=False).returncode


def main() -> int:
    code = licences.main()
    if not is_reachable():
        print("Vulnerabilities were not checked: api.osv.dev cannot be reached.")
        return code
    return max(code, known_vulnerabilities())


if __name__ == "__main__":
    sys.exit(main())
