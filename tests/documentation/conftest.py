"""One documented installation for all tests of the documentation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.documentation.documented import Documented, running


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    with running(tmp_path_factory.mktemp("documented")) as site:
        yield site
