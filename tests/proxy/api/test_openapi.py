from __future__ import annotations

from openapi_spec_validator import validate

from proxy.api import routes
from proxy.api.resource import Resource
from tests.proxy.api.conftest import DOCUMENT


async def test_the_contract_is_valid_and_served(api):
    validate(DOCUMENT)
    assert (await api.http.get("/openapi.json")).json() == DOCUMENT


async def test_every_path_and_method_is_documented_and_no_other(api):
    served = {
        (path.path, method.lower())
        for path in routes(api.sidecar)
        if isinstance(path.app, Resource)
        for method in path.app.methods
    }
    documented = {
        (path, method) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters"
    }
    assert served == documented


def test_the_document_names_the_design_s_words():
    schemas = DOCUMENT["components"]["schemas"]
    for name in ("Agent", "Action", "Charge", "Standing", "Reservation"):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"])
