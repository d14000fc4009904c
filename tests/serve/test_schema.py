"""Whatever the schema allows, and much that it does not, is answered without an error of the server."""

import contextlib
from itertools import product
from unittest import SkipTest

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from assay.predict.runtime import load_runtime
from assay.serve.app import Service, make_app
from assay.web.middleware import Guard

pytestmark = pytest.mark.slow

ADDRESSES = 11


def test_no_request_makes_the_server_fail(model):
    """Fault 59: each address passes schemathesis's default checks, and what is answered is declared."""
    service = Service(load_runtime(model), "trees")
    app = Guard(make_app(service), port=80, token=None, max_body_bytes=64_000_000)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "127.0.0.1"})
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == ADDRESSES
    statuses: set[int] = set()
    for operation, mode in product(operations, schemathesis.GenerationMode):

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            response = case.call(headers={"host": "127.0.0.1"})
            statuses.add(response.status_code)
            case.validate_response(response)

        with contextlib.suppress(Unsatisfiable, SkipTest):  # what has no parameters has no wrong ones
            ask()
    assert {200, 404, 422} <= statuses
