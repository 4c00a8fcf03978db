"""`make audit`: known vulnerabilities are looked up only if the service can be reached."""

from __future__ import annotations

import pytest

from tests import audit, licences
from tests.helpers.redis_server import free_port


def test_service_that_cannot_be_reached_is_said_and_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(audit, "SERVICE", f"http://127.0.0.1:{free_port()}/")
    assert audit.main() == 0
    assert "Vulnerabilities were not checked" in capsys.readouterr().out


@pytest.mark.parametrize(("licence", "vulnerabilities", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_each_finding_fails_the_audit(monkeypatch, licence, vulnerabilities, code):
    monkeypatch.setattr(licences, "main", lambda: licence)
    monkeypatch.setattr(audit, "is_reachable", lambda: True)
    monkeypatch.setattr(audit, "known_vulnerabilities", lambda: vulnerabilities)
    assert audit.main() == code
