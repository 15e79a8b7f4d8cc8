"""The description of the API, as an OpenAPI 3.1 document made of the table of resources."""

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import groupby
from typing import Any

from campaign_gateway import __version__
from campaign_gateway.problems import Problem
from campaign_gateway.web.docs.components import HEADERS, PARAMETERS, Json
from campaign_gateway.web.docs.examples import EXAMPLES, problem_example
from campaign_gateway.web.docs.guide import GUIDE
from campaign_gateway.web.docs.resources import RESOURCES, TAGS, Resource, ResponseText
from campaign_gateway.web.docs.schemas import SCHEMAS

_KEY = "clientKey"
NEEDED = ".needed"
_NAMES = {
    "campaign-id": "id",
    "problem": "name",
    **{f"change-{name}": name for name in ("after", "wait", "limit", "type", "ids", "status")},
}
"""Of parameters that go by another name in the tables than in requests."""

ABOUT = """\
Campaigns of the Kore.ai *Campaign Management public API*, through one endpoint that signs, caches, and keeps the
platform's call limit.

`Age` and `Cache-Status` say how old an answer is and how it was made. Every answer carries `X-Request-ID`; a caller's
value is kept. Every error is `application/problem+json`, and its `type` leads to
a page about it. A `503` says in `Retry-After` when to come back.

A write is sent at most once. Its answer carries `Campaign-Gateway-Version`; a read that sends it back is answered from
a validation newer than the write.

The platform's own paths are served too, as the platform documents them, and are not repeated here.
"""


def document() -> Mapping[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Json]] = {}
    for resource in RESOURCES:
        paths.setdefault(resource.path, {})[resource.method.lower()] = _operation(resource)
    responses = {name: answer for resource in RESOURCES for _, name, answer in _failures(resource)}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Campaign gateway",
            "version": __version__,
            "description": ABOUT,
            "contact": {"name": "Those who run this gateway"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The gateway that serves this description."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "parameters": _referred("parameters", _parameters(), paths),
            "headers": _referred("headers", HEADERS, [paths, responses]),
            "examples": _examples(),
            "responses": responses,
            "securitySchemes": {
                _KEY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A client key of the gateway's. The roles of an operation are the scopes it needs.",
                }
            },
        },
    }


def problems_of(resource: Resource) -> list[Problem]:
    """Every problem that the resource can answer with, by status."""
    always = (Problem.INVALID_REQUEST, Problem.HEADER_TOO_LARGE, Problem.INTERNAL)
    return sorted((*always, *resource.problems), key=lambda problem: problem.status)


def _operation(resource: Resource) -> Json:
    text, scope = resource.text, resource.scope
    needs = f"Needs the scope `{scope}`." if scope is not None else ""
    return {
        "operationId": text.id,
        "summary": text.summary,
        "description": " ".join(filter(None, [text.description, needs])),
        "tags": [resource.tag],
        "security": [] if scope is None else [{_KEY: [scope]}],
        "parameters": [
            _ref("parameters", f"{name}{NEEDED}" if name in resource.required else name) for name in resource.parameters
        ],
        **({"requestBody": _request_body(text.body)} if text.body is not None else {}),
        "responses": _responses(resource),
    }


def _parameters() -> Json:
    """The parameters by name, each also as one that cannot be left out where its route says so."""
    full = {name: _parameter(name, row) for name, row in PARAMETERS.items()}
    needed = {name for resource in RESOURCES for name in resource.required}
    return full | {f"{name}{NEEDED}": {**full[name], "required": True} for name in sorted(needed)}


def _parameter(name: str, row: Json) -> Json:
    named = {"name": _NAMES.get(name, name), **row}
    return {**named, "required": True} if row["in"] == "path" else named


def _request_body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": _media(schema)}}


def _responses(resource: Resource) -> Json:
    answer, has_body = resource.answer, resource.method != "HEAD"
    found = {answer.status: _success(answer, has_body=has_body)}
    if answer.is_validated:
        fields = _headers(answer.headers, answer.sometimes)
        found["304"] = {"description": "The caller's copy is current.", "headers": fields}
    return found | {str(status): _ref("responses", name) for status, name, _ in _failures(resource)}


def _success(answer: ResponseText, *, has_body: bool) -> Json:
    media = {answer.media: {} if answer.schema is None else _media(answer.schema)}
    if answer.also is not None:
        media[answer.also] = {} if answer.also_schema is None else _media(answer.also_schema)
    content = {"content": media} if has_body else {}
    fields = _headers(answer.headers, answer.sometimes)
    return {"description": "The requested answer.", "headers": fields, **content}


def _media(schema: str) -> Json:
    examples = {name: _ref("examples", f"{schema}.{name}") for name in EXAMPLES[schema]}
    return {"schema": _ref("schemas", schema), "examples": examples}


def _examples() -> Json:
    bodies = {f"{schema}.{name}": {"value": value} for schema, rows in EXAMPLES.items() for name, value in rows.items()}
    problems = {
        f"Problem.{problem.value.name}": {
            "summary": problem.title,
            "value": problem_example(problem, GUIDE[problem].example),
        }
        for problem in Problem
    }
    return bodies | problems


def _failures(resource: Resource) -> Iterator[tuple[int, str, Json]]:
    """A status, a name and an answer for all problems of each status. They are shared, or viewers would be slow."""
    has_body = resource.method != "HEAD"
    for status, group in groupby(problems_of(resource), key=lambda problem: problem.status):
        problems = list(group)
        names = [str(status), *(problem.value.name for problem in problems), *([] if has_body else ["head"])]
        yield status, ".".join(names), _failure(status, problems, has_body=has_body)


def _failure(status: int, problems: list[Problem], *, has_body: bool) -> Json:
    """The answer for all problems of one status."""
    always, sometimes = ["Cache-Control"], []
    if status == HTTPStatus.UNAUTHORIZED:
        always.append("WWW-Authenticate")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        always.append("Retry-After")
    if status >= HTTPStatus.BAD_GATEWAY:
        sometimes = ["Retry-After", "RateLimit", "RateLimit-Policy", "Server-Timing"]
    # Not narrowed to these types and this status: generators of clients take that for another schema, or for none.
    examples = {problem.value.name: _ref("examples", f"Problem.{problem.value.name}") for problem in problems}
    schema = {"schema": _ref("schemas", "Problem"), "examples": examples}
    description = "; ".join(f"`{problem.value.name}`: {problem.title}" for problem in problems)
    content = {"content": {"application/problem+json": schema}} if has_body else {}
    return {"description": f"{description}.", "headers": _headers(always, sometimes), **content}


def _headers(always: Iterable[str], sometimes: Iterable[str]) -> Json:
    return {
        **{name: {**HEADERS[name], "required": True} for name in ("X-Request-ID", *always)},
        **{name: _ref("headers", name) for name in sometimes},
    }


def _referred(kind: str, table: Json, by: object) -> Json:
    """The rows of the table that are referred to: linters call the others dead."""
    text = json.dumps(by)
    return {name: row for name, row in table.items() if f'"#/components/{kind}/{name}"' in text}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
