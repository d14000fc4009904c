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
from schemathesis.specs.openapi.checks import positive_data_acceptance

from assay.predict.runtime import load_runtime
from assay.serve.app import Service, make_app
from assay.web.middleware import Guard

pytestmark = pytest.mark.slow

ADDRESSES = 11


def test_no_request_makes_the_server_fail(model):
    """Fault 59: each address passes schemathesis's default checks, and what is answered is declared."""
    service = Service(load_runtime(model), "trees")
    made = make_app(service)
    app = Guard(made, port=80, token=None, max_body_bytes=64_000_000)
    # Any other name is answered by 404 alone. FastAPI keeps the schema that is changed here.
    known = {"name": service.name, "version": service.version}
    for declared in (one for path in made.openapi()["paths"].values() for one in path.values()):
        for parameter in declared.get("parameters", ()):
            if parameter["name"] in known:
                parameter["schema"]["enum"] = [known[parameter["name"]]]
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "127.0.0.1"})
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == ADDRESSES
    statuses: set[tuple[str, int]] = set()
    for operation, mode in product(operations, schemathesis.GenerationMode):

        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            response = case.call(headers={"host": "127.0.0.1"})
            statuses.add((case.path, response.status_code))
            # 7.0 is an integer for a schema and none for a tensor, whose header has to fit the body besides.
            passed_over = [positive_data_acceptance] if case.path.endswith("/infer") else []
            case.validate_response(response, excluded_checks=passed_over)

        with contextlib.suppress(Unsatisfiable, SkipTest):  # what has no parameters has no wrong ones
            ask()
    models = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    assert {(f"{model}/infer", status) for model in models for status in (200, 422)} <= statuses
    assert {(models[0], 200), (models[0], 404), ("/predict", 200), ("/predict", 422)} <= statuses
