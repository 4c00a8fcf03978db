"""An installation on a PostgreSQL server that a test may stop, with a relay between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from tests.faults.relay import Relay
from tests.helpers.database import InstallationDatabase
from tests.helpers.processes import Stack
from tests.postgres import PostgresServer


@dataclass(frozen=True, slots=True)
class Installation:
    """Its processes reach the server through the relay."""

    stack: Stack
    server: PostgresServer
    relay: Relay


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Run Redis, a PostgreSQL server and a web server. The test starts the workers."""
    postgres.require_server()
    with postgres.server() as server, Relay() as relay:
        relay.port_behind = server.port
        with Stack(tmp_path, DATABASE_URL=server.url(relay.port)) as stack:
            stack.database = InstallationDatabase(tmp_path, server.url())  # the test itself needs no relay
            yield Installation(stack, server, relay)
