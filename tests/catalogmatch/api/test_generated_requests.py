"""Fuzz the API with valid and invalid calls from its OpenAPI document, for every role.

No call may crash or return an undocumented response. FUZZ_EXAMPLES=500 tries more calls, and new ones in each run.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from catalogmatch.accounts.tokens import issue_token
from products.images.cleaning import Upload
from products.images.intake import add_product
from products.queue.embed import embed_pending
from tests.helpers.accounts import user_in
from tests.helpers.rows import make_case
from tests.helpers.sample_images import as_file, jpeg, noise, truncated

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
IMAGES = [
    jpeg(1),
    as_file(noise(2), "WebP"),
    truncated(jpeg(3)),
    b"",
]


def not_a_fault(context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """Refuse status 500 and above, but for words: the tests have no weights to search by them."""
    if response.status_code == 503 and response.json()["code"] == "text_unavailable":
        return None
    return not_a_server_error(context, response, case)


OF_THE_ANSWER = [
    not_a_fault,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schemathesis.openapi.format("binary", st.sampled_from(IMAGES) | st.binary(max_size=200))

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True), pytest.mark.timeout(0 if EXAMPLES else 180)]


def fill() -> list[int]:
    """Create products and matches that calls can find. Return their ids."""
    historical = add_product([Upload(jpeg(1))], sku="S-1", is_historical=True).product
    new = add_product([Upload(jpeg(1, angle=3))], sku="S-2").product
    embed_pending()
    product, matches = make_case(80, 60)
    return [historical.pk, new.pk, product.pk, *(match.pk for match in matches)]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("role", [None, "viewer", "uploader", "reviewer", "manager"])
def test_every_response_is_documented(role: str | None, mode: GenerationMode) -> None:
    numbers = fill()
    headers = {"Authorization": f"Token {issue_token(user_in(role))}"} if role else {}
    api = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))
    api.app = get_wsgi_application()

    def call(case: Case[Any], number: int | None) -> None:
        if number is not None and "id" in case.path_parameters:
            case.path_parameters["id"] = number
        if "wait" in case.query:
            case.query["wait"] = 0
        case.call_and_validate(headers=headers, checks=OF_THE_ANSWER)

    tried = settings(
        max_examples=EXAMPLES or 6, derandomize=not EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    for result in api.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # an Err raises here, which fails the test
        if mode is GenerationMode.NEGATIVE and not any((*operation.path_parameters, *operation.query, *operation.body)):
            continue  # nothing can be wrong with it
        cases = operation.as_strategy(generation_mode=mode)
        tried(given(case=cases, number=st.none() | st.sampled_from(numbers))(call))()
