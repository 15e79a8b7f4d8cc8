import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from campaign_gateway import __version__
from campaign_gateway.contract.operations import OPERATIONS, Kind, RequestBody
from campaign_gateway.problems import Problem
from campaign_gateway.web.docs import openapi
from campaign_gateway.web.docs.components import HEADERS, PARAMETERS
from campaign_gateway.web.docs.examples import EXAMPLES
from campaign_gateway.web.docs.openapi import NEEDED, problems_of
from campaign_gateway.web.docs.pages import page_at
from campaign_gateway.web.docs.resources import RESOURCES, TAGS, TEXTS, Resource
from campaign_gateway.web.docs.schemas import SCHEMAS
from campaign_gateway.web.rejected import RejectedError
from campaign_gateway.web.routes import ROUTES, find

SAMPLES = Path(__file__).parents[3] / "samples"
OUR_PATHS = ("/openapi.json", "/docs", "/problems", "/problems/{name}")
OURS = [resource for resource in RESOURCES if resource.scope is None]


@cache
def document() -> Any:
    """Made once: a tenth of a second, hundreds of times."""
    return openapi.document()


def named(resource: Resource) -> str:
    return f"{resource.method} {resource.path}"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation, with its responses written out."""
    whole = document()
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            responses = {
                status: whole["components"]["responses"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found
                for status, found in operation["responses"].items()
            }
            yield method.upper(), path, {**operation, "responses": responses}


def of(method: str, path: str) -> dict[str, Any]:
    (found,) = [operation for *place, operation in operations() if place == [method, path]]
    return found


def shown(example: dict[str, str]) -> Any:
    """The value of an example that is referred to."""
    return document()["components"]["examples"][example["$ref"].rpartition("/")[2]]["value"]


def test_the_document_is_valid_openapi_also_after_a_trip_as_json():
    validate(document())
    validate(json.loads(json.dumps(document())))
    assert document()["openapi"].startswith("3.1.")
    assert document()["info"]["version"] == __version__


# The routes and their description cannot part: paths, methods, scopes and parameters come from the routes.


def test_every_method_of_every_route_is_described_on_both_its_paths_and_nothing_else_is():
    routed = {
        (method, prefix + route.path)
        for route in ROUTES
        for method in route.methods
        for prefix in ("/v1", "/v1/streams/{stream}")
    }
    served = {(method, path) for path in OUR_PATHS for method in ("GET", "HEAD")}
    assert {(method, path) for method, path, _ in operations()} == routed | served


def test_something_is_said_of_each_operation_and_of_no_other():
    assert set(TEXTS) == {method.name for route in ROUTES for method in route.methods.values()}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_routes_query_is_described_with_what_cannot_be_left_out(route):
    for name, method in route.methods.items():
        (resource,) = [row for row in RESOURCES if named(row) == f"{name} /v1{route.path}"]
        names = (name for name in resource.parameters if PARAMETERS[name]["in"] == "query")
        query = {name.removeprefix("change-") for name in names}
        assert query == set(method.parameters)
        assert (resource.required, resource.scope) == (method.required, method.scope)


@pytest.mark.parametrize("path", sorted({resource.path for resource in RESOURCES}))
def test_a_described_path_leads_to_its_route_which_takes_these_methods_and_no_other(path):
    methods = sorted(resource.method for resource in RESOURCES if resource.path == path)
    ask = page_at if path in {resource.path for resource in OURS} else find
    with pytest.raises(RejectedError) as refused:
        ask("BREW", re.sub(r"\{\w+\}", "x-1", path.replace("{name}", "internal")))
    assert refused.value.allow == ", ".join(methods)


def test_what_must_be_sent_is_described():
    taking = {row.name for row in OPERATIONS if row.kind is Kind.WRITE and row.body is RequestBody.JSON}
    assert {name for name, text in TEXTS.items() if text.body is not None} == taking | {"purge", "changed"}


# What follows from a row.

FRESHNESS = {"Cache-Control", "Cache-Status"}


def test_an_operation_needs_a_key_and_its_scope_or_nothing():
    assert of("GET", "/v1/campaigns/{id}")["security"] == [{"clientKey": ["read"]}]
    assert of("POST", "/v1/streams/{stream}/purge")["security"] == [{"clientKey": ["purge"]}]
    assert of("GET", "/docs")["security"] == []


def test_a_parameter_that_cannot_be_left_out_is_another_one_than_where_it_can():
    parameters = document()["components"]["parameters"]
    assert [row["$ref"].rpartition("/")[2] for row in of("POST", "/v1/schedules")["parameters"]] == [
        "campaignName.needed"
    ]
    assert parameters["campaignName.needed"]["required"]
    assert parameters["campaignName.needed"]["name"] == "campaignName"
    assert "required" not in parameters["type"]


@pytest.mark.parametrize("resource", RESOURCES, ids=named)
def test_each_problem_is_under_its_status_and_no_other_is(resource):
    responses = of(resource.method, resource.path)["responses"]
    told = {}
    for status, response in responses.items():
        for media, content in response.get("content", {}).items():
            if media == "application/problem+json":
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                examples = [shown(example) for example in content["examples"].values()]
                assert {example["status"] for example in examples} == {int(status)}
                told[int(status)] = {example["type"] for example in examples}
    expected: dict[int, set[str]] = {}
    for problem in problems_of(resource):
        expected.setdefault(problem.status, set()).add(problem.type)
    assert told == ({} if resource.method == "HEAD" else expected)
    assert {status for status in responses if not status.startswith(("2", "3"))} == {str(status) for status in expected}


@pytest.mark.parametrize(
    ("method", "path", "given", "missing"),
    [
        (
            "GET",
            "/v1/campaigns/{id}",
            [Problem.CAMPAIGN_NOT_FOUND, Problem.NOT_CACHED],
            [Problem.TOO_LARGE, Problem.UPSTREAM_REJECTED],
        ),
        ("GET", "/v1/campaigns", [Problem.UPSTREAM_REJECTED], [Problem.TOO_LARGE]),
        ("GET", "/v1/contact-lists/{id}", [Problem.CONTACT_LIST_NOT_FOUND], [Problem.CAMPAIGN_NOT_FOUND]),
        ("PUT", "/v1/campaigns/{id}", [Problem.TOO_LARGE, Problem.UPSTREAM_REJECTED], [Problem.NOT_CACHED]),
        ("POST", "/v1/campaigns/{id}/start", [Problem.TOO_LARGE], []),
        ("DELETE", "/v1/campaigns/{id}", [Problem.UPSTREAM_REJECTED], [Problem.TOO_LARGE]),
        ("POST", "/v1/purge", [Problem.TOO_LARGE, Problem.FORBIDDEN], [Problem.UPSTREAM_TIMEOUT]),
        ("POST", "/v1/changed", [Problem.TOO_LARGE, Problem.FORBIDDEN], [Problem.BUDGET_EXHAUSTED]),
        ("GET", "/docs", [Problem.INVALID_REQUEST], [Problem.UNAUTHENTICATED, Problem.UNKNOWN_STREAM]),
    ],
)
def test_problems_follow_from_what_an_operation_does(method, path, given, missing):
    (resource,) = [row for row in RESOURCES if (row.method, row.path) == (method, path)]
    found = set(problems_of(resource))
    assert set(given) <= found
    assert not set(missing) & found


@pytest.mark.parametrize(
    ("method", "path", "status", "always"),
    [
        ("GET", "/v1/campaigns/{id}", "200", {"X-Request-ID", "Age", "ETag", *FRESHNESS, "Campaign-Gateway-Bound"}),
        ("GET", "/v1/campaigns/{id}", "304", {"X-Request-ID", "Age", "ETag", *FRESHNESS, "Campaign-Gateway-Bound"}),
        ("GET", "/v1/contact-lists/{id}", "200", {"X-Request-ID", "Age", "ETag", *FRESHNESS}),
        ("POST", "/v1/changed", "202", {"X-Request-ID", *FRESHNESS}),
        ("GET", "/v1/campaigns", "200", {"X-Request-ID", "Cache-Control", "Cache-Status"}),
        ("GET", "/v1/campaigns/{id}/outcomes", "2XX", {"X-Request-ID", "Cache-Control", "Cache-Status"}),
        (
            "PUT",
            "/v1/campaigns/{id}",
            "2XX",
            {"X-Request-ID", "Cache-Control", "Cache-Status", "Campaign-Gateway-Version"},
        ),
        ("PUT", "/v1/campaigns/{id}", "401", {"X-Request-ID", "Cache-Control", "WWW-Authenticate"}),
        ("GET", "/openapi.json", "200", {"X-Request-ID", "Cache-Control", "ETag"}),
    ],
)
def test_fields_that_always_come_are_required(method, path, status, always):
    headers = of(method, path)["responses"][status]["headers"]
    assert {name for name, header in headers.items() if header.get("required")} == always


def test_only_what_can_be_validated_gives_a_304():
    assert "304" in of("GET", "/v1/contact-lists")["responses"]
    assert "304" not in of("GET", "/v1/contact-lists/{id}/contacts")["responses"]
    assert "304" not in of("POST", "/v1/campaigns")["responses"]


def test_heads_have_no_body():
    for method, _, operation in operations():
        bodies = [status for status, response in operation["responses"].items() if "content" in response]
        assert bool(bodies) == (method != "HEAD")


# What generators of clients need.


def schemas_in(piece: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a piece of the document, with where it is."""
    if isinstance(piece, dict):
        if {"type", "anyOf", "oneOf", "allOf"} & piece.keys():
            yield path, piece
        for name, value in piece.items():
            if name not in {"examples", "example", "enum"}:
                yield from schemas_in(value, f"{path}/{name}")
    elif isinstance(piece, list):
        for index, value in enumerate(piece):
            yield from schemas_in(value, f"{path}/{index}")


def test_objects_and_branches_have_names_and_arrays_say_what_they_hold():
    whole = document()
    for path, schema in schemas_in({name: whole["components"][name] for name in ("schemas", "parameters", "headers")}):
        kind = schema.get("type")
        if kind == "object":
            assert path.count("/") == 2, path
        if kind == "array":
            assert "items" in schema, path
        if isinstance(kind, list):
            assert not {"array", "object"} & set(kind), path
        for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
            assert "$ref" in branch or branch["type"] == "string", path


def test_each_body_refers_to_a_schema_by_name_and_has_examples():
    for method, path, operation in operations():
        for answer in (*operation["responses"].values(), operation.get("requestBody", {})):
            for content in answer.get("content", {}).values():
                if path.startswith("/v1/"):
                    assert set(content["schema"]) == {"$ref"}, (method, path)
                    assert content["examples"], (method, path)


@pytest.mark.parametrize("schema", [*EXAMPLES, "Problem"])
def test_examples_are_what_the_schema_says_and_say_nothing_else(schema):
    whole = document()
    closed = closing({"schemas": whole["components"]["schemas"]})
    judge = OAS31Validator({"$ref": f"#/components/schemas/{schema}", "components": closed})
    examples = {name: row for name, row in whole["components"]["examples"].items() if name.startswith(f"{schema}.")}
    assert examples
    for example in examples.values():
        judge.validate(example["value"])


def closing(piece: Any) -> Any:
    """The schemas, with every object closed: a misspelt member of an example is an error."""
    if isinstance(piece, dict):
        closed = {name: closing(value) for name, value in piece.items()}
        return {**closed, "additionalProperties": False} if piece.get("type") == "object" else closed
    return [closing(one) for one in piece] if isinstance(piece, list) else piece


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("campaign-*.json")), ids=lambda path: path.stem)
def test_every_documented_member_of_a_campaign_is_in_the_schema(sample):
    answer = json.loads(sample.read_text())
    data = answer["data"]
    schemas = document()["components"]["schemas"]
    if "results" in data:
        name = "OutcomesAnswer" if "outcomes" in sample.stem else "CampaignPage"
    else:
        name = "CampaignStatusAnswer" if sample.stem == "campaign-status" else "CampaignAnswer"
    OAS31Validator({"$ref": f"#/components/schemas/{name}", "components": closing({"schemas": schemas})}).validate(
        answer
    )


def test_nothing_is_explained_that_is_not_used():
    assert {resource.tag for resource in RESOURCES} == set(TAGS)
    text = json.dumps(document())
    for kind, names in (("parameters", PARAMETERS), ("schemas", SCHEMAS)):
        assert [
            name for name in names if f'#/components/{kind}/{name}"' not in text and f"/{name}{NEEDED}" not in text
        ] == []
    used = {name for resource in RESOURCES for name in (*resource.answer.headers, *resource.answer.sometimes)}
    assert set(HEADERS) - used == {"X-Request-ID", "Retry-After", "WWW-Authenticate"}
