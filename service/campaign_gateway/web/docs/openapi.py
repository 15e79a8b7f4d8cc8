"""The description of the API, as an OpenAPI 3.1 document made of the table of resources."""

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import groupby
from typing import Any

from campaign_gateway import __version__
from campaign_gateway.problems import Problem
from campaign_gateway.web.docs.components import HEADERS, PARAMETERS, SCHEMAS, Json
from campaign_gateway.web.docs.resources import RESOURCES, TAGS, Resource, ResponseText

_KEY = "clientKey"
NEEDED = ".needed"

ABOUT = """\
Campaigns of the Kore.ai *Campaign Management public API*, through one endpoint that signs, caches, and keeps the
platform's call limit.

`Age` and `Cache-Status` say how old an answer is and how it was made. Every answer carries `X-Request-ID`; a caller's
value is kept. Every error is `application/problem+json`. A `503` says in `Retry-After` when to come back.

A write is sent at most once. Its answer carries `Campaign-Gateway-Version`; a read that sends it back is answered from
a validation newer than the write.

The platform's own paths are served too, as the platform documents them, and are not repeated here.
"""


def document() -> Mapping[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Json]] = {}
    for resource in RESOURCES:
        paths.setdefault(resource.path, {})[resource.method.lower()] = _operation(resource)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Campaign gateway",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "parameters": _parameters(),
            "headers": HEADERS,
            "responses": {name: answer for resource in RESOURCES for _, name, answer in _failures(resource)},
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
    return (
        {"name": name.removeprefix("campaign-"), "required": True, **row}
        if row["in"] == "path"
        else {"name": name, **row}
    )


def _request_body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": _ref("schemas", schema)}}}


def _responses(resource: Resource) -> Json:
    answer, has_body = resource.answer, resource.method != "HEAD"
    found = {answer.status: _success(answer, has_body=has_body)}
    if answer.is_validated:
        fields = _headers(answer.headers, answer.sometimes)
        found["304"] = {"description": "The caller's copy is current.", "headers": fields}
    return found | {str(status): _ref("responses", name) for status, name, _ in _failures(resource)}


def _success(answer: ResponseText, *, has_body: bool) -> Json:
    schema: Json = {} if answer.schema is None else {"schema": _ref("schemas", answer.schema)}
    content = {"content": {answer.media: schema}} if has_body else {}
    fields = _headers(answer.headers, answer.sometimes)
    return {"description": "The requested answer.", "headers": fields, **content}


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
    if status >= HTTPStatus.BAD_GATEWAY:
        sometimes = ["Retry-After", "RateLimit", "RateLimit-Policy"]
    narrowed = {
        "allOf": [
            _ref("schemas", "Problem"),
            {"properties": {"type": {"enum": [problem.type for problem in problems]}, "status": {"const": status}}},
        ]
    }
    description = "; ".join(f"`{problem.value.name}`: {problem.title}" for problem in problems)
    content = {"content": {"application/problem+json": {"schema": narrowed}}} if has_body else {}
    return {"description": f"{description}.", "headers": _headers(always, sometimes), **content}


def _headers(always: Iterable[str], sometimes: Iterable[str]) -> Json:
    return {
        **{name: {**HEADERS[name], "required": True} for name in ("X-Request-ID", *always)},
        **{name: _ref("headers", name) for name in sometimes},
    }


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
