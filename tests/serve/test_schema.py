"""Whatever the schema allows, and much that it does not, is answered without an error of the server."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import schemathesis
from hypothesis import HealthCheck, given, settings

from assay.predict.runtime import load_runtime
from assay.serve.app import Service, make_app

pytestmark = pytest.mark.slow

ADDRESSES = 8


def test_no_request_makes_the_server_fail(model):
    """Fault 59: each address, with what Hypothesis finds, is answered without a 5xx."""
    app = make_app(Service(load_runtime(model), "trees"))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == ADDRESSES
    statuses: set[int] = set()
    for operation in operations:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case):
            response = case.call()
            statuses.add(response.status_code)
            assert response.status_code < 500, response.text

        ask()
    assert {200, 404, 422} <= statuses
