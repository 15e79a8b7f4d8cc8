"""What the API takes and gives: each method of each path, made of the routes and of what is said of their operations.

A new route needs a row in `TEXTS`, and its query's parameters in `components.PARAMETERS`. The rest follows from the
route: the paths, HEAD, the scope, the fields of answers, the problems.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from campaign_gateway.contract.operations import RequestBody, Subject, operation
from campaign_gateway.policy.settle import NOT_FOUND
from campaign_gateway.problems import Problem
from campaign_gateway.web.changes import CURSOR
from campaign_gateway.web.event_stream import EVENT_STREAM
from campaign_gateway.web.responses import BOUND, NEWER
from campaign_gateway.web.routes import ROUTES, Action, Method, Route


@dataclass(frozen=True, slots=True)
class Text:
    """What is said of an operation."""

    id: str
    """Unique; what generated clients call it."""
    summary: str
    answer: str | None = None
    """The answer's schema: a name in `schemas.SCHEMAS`; None where nothing is said of its form."""
    body: str | None = None
    """The schema of the JSON that is sent; None where none is, or none is worth sending."""
    description: str = ""


TEXTS: Mapping[str, Text] = {
    "get": Text("getCampaign", "One campaign", "CampaignAnswer"),
    "list": Text(
        "listCampaigns",
        "A page of the list, or campaigns by id",
        "CampaignsAnswer",
        description="Needs either `type`, with any other parameters, or `ids`, with `fields` only: then each campaign "
        "comes through the cache, or is a problem.",
    ),
    "status": Text("getCampaignStatus", "The status of a campaign", "CampaignStatusAnswer"),
    "outcomes": Text("getOutcomes", "The outcomes of a campaign's contacts", "OutcomesAnswer"),
    "create": Text("createCampaign", "Create a campaign", "CampaignWritten", body="CampaignChange"),
    "update": Text("updateCampaign", "Replace a campaign", "CampaignWritten", body="CampaignChange"),
    "delete": Text("deleteCampaign", "Delete a campaign", "CampaignWritten"),
    "start": Text("startCampaign", "Start a campaign", "CampaignTriggered"),
    "stop": Text("stopCampaign", "Stop a campaign", "CampaignTriggered"),
    "schedule-on": Text("enableSchedule", "Enable a campaign's schedule", "CampaignScheduled", body="Schedule"),
    "schedule-off": Text("disableSchedule", "Disable a campaign's schedule", "CampaignScheduled"),
    "call-back": Text("callBack", "Schedule calls to contacts", "CallBacksAnswer", body="CallBacks"),
    "contact-list-list": Text("listContactLists", "All contact lists", "ContactListsAnswer"),
    "contact-list-get": Text("getContactList", "One contact list", "ContactListAnswer"),
    "contact-list-create": Text(
        "createContactList", "Create a contact list", "ContactListWritten", body="ContactListChange"
    ),
    "contact-list-update": Text(
        "updateContactList", "Update a contact list", "ContactListUpdated", body="ContactListChange"
    ),
    "contact-list-delete": Text("deleteContactList", "Delete a contact list", "ContactListWritten"),
    "contacts": Text("getContacts", "The contacts of a list", "ContactsAnswer"),
    "contacts-add": Text("addContacts", "Add contacts to a list", "ContactsAdded", body="Contacts"),
    "purge": Text(
        "purge",
        "Make stored answers stale",
        "Purged",
        "Purge",
        "They are fresh again after their next validation; refills use the background lane. The status is 202 while "
        "other replicas do not know of it.",
    ),
    "changes": Text(
        "listChanges",
        "What has changed",
        "ChangesAnswer",
        description="With `Accept: text/event-stream`, server-sent events for as long as you listen: resume with "
        "`Last-Event-ID`. Otherwise the changes after the cursor `after`, for which the answer waits up to `wait`. A "
        "change costs no call. An event stream, and an answer without `after`, begins with the "
        "`stream.degraded` of each list that is not trusted at present.",
    ),
    "changed": Text(
        "hintChanged",
        "Report that campaigns have changed",
        "Accepted",
        "Changed",
        "For systems that know of a change before the gateway: these campaigns are read first. Until then their stored "
        "answers are served as stale; nothing is evicted.",
    ),
}
"""By the operation's name in the routes."""

TAGS: Mapping[str, str] = {
    "Campaigns": "Of the default stream.",
    "Contact lists": "Of the default stream.",
    "Cache": "Of the default stream.",
    "Changes": "Of the default stream.",
    "Streams": "The same, for the stream in the path.",
    "Description": "The description of this API. Needs no key.",
}


@dataclass(frozen=True, slots=True)
class ResponseText:
    """What comes when all goes well."""

    schema: str | None
    """A name in `schemas.SCHEMAS`; None where nothing is said of the body's form."""
    headers: tuple[str, ...]
    """Those that always come: names in `components.HEADERS`."""
    sometimes: tuple[str, ...] = ()
    """Those that may be missing."""
    media: str = "application/json"
    also: str | None = None
    """Another media type that a caller may ask for."""
    also_schema: str | None = None
    """Its schema, as above."""
    status: str = "200"
    is_validated: bool = True
    """Whether a caller's copy can be found good, which is a 304."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One method of one path."""

    method: str
    path: str
    text: Text
    tag: str
    answer: ResponseText
    parameters: tuple[str, ...]
    """Names in `components.PARAMETERS`."""
    required: frozenset[str] = frozenset()
    """Those of them that cannot be left out, beside the path's."""
    scope: str | None = None
    """What the client must be allowed; None where no key is needed."""
    problems: tuple[Problem, ...] = ()
    """Those that not every request can meet."""


CONDITIONS = ("If-None-Match", "If-Modified-Since")
DIRECTIVES = ("Cache-Control", "Campaign-Gateway-Version")

_OF_CALLS = ("RateLimit", "RateLimit-Policy", "Server-Timing")
_VALIDATED = ("Age", "ETag")
_FRESHNESS = ("Cache-Control", "Cache-Status")
_PLATFORM = (
    Problem.UPSTREAM_UNAUTHORIZED,
    Problem.UPSTREAM_UNAVAILABLE,
    Problem.UPSTREAM_INVALID,
    Problem.UPSTREAM_TIMEOUT,
    Problem.BUDGET_EXHAUSTED,
    Problem.UPSTREAM_PAUSED,
    Problem.OVERLOADED,
)
"""What can happen wherever a call may be needed."""
_OF_CLIENTS = (Problem.UNAUTHENTICATED, Problem.FORBIDDEN, Problem.RATE_LIMITED, Problem.UNKNOWN_STREAM)
_BODY = (Problem.TOO_LARGE, Problem.UNSUPPORTED_MEDIA_TYPE)


def _of_route(route: Route) -> Iterator[Resource]:
    """Its methods, on the path of the default stream and on that of a stream by name."""
    for name, method in route.methods.items():
        text = TEXTS[method.name]
        plain = Resource(
            name,
            f"/v1{route.path}",
            text,
            _tag(route, method),
            _answer(method, text),
            (
                *_variables(route),
                *(_parameter(method, name) for name in method.parameters),
                *(CONDITIONS + DIRECTIVES if method.action is Action.READ else ()),
                *(("Last-Event-ID",) if method.action is Action.CHANGES else ()),
            ),
            method.required,
            method.scope,
            (*_OF_CLIENTS, *_problems(method)),
        )
        yield plain
        yield replace(
            plain,
            path=f"/v1/streams/{{stream}}{route.path}",
            text=replace(text, id=f"{text.id}InStream"),
            tag="Streams",
            parameters=("stream", *plain.parameters),
        )


def _variables(route: Route) -> tuple[str, ...]:
    if "{id}" not in route.path:
        return ()
    return ("campaign-id",) if route.path.startswith("/campaigns/") else ("id",)


def _parameter(method: Method, name: str) -> str:
    """The row of the query's parameter; those of the feed are other ones than those of lists."""
    return f"change-{name}" if method.action is Action.CHANGES else name


def _tag(route: Route, method: Method) -> str:
    if method.action in {Action.PURGE, Action.HINT}:
        return "Cache"
    if method.action is Action.CHANGES:
        return "Changes"
    return "Contact lists" if route.path.startswith("/contact") else "Campaigns"


def _answer(method: Method, text: Text) -> ResponseText:
    match method.action:
        case Action.READ if "ids" in method.parameters:
            return ResponseText(text.answer, _FRESHNESS, (*_VALIDATED, "Last-Modified", "Vary", *_OF_CALLS))
        case Action.READ if operation(method.name).subject is Subject.CAMPAIGN:
            return ResponseText(text.answer, (*_VALIDATED, *_FRESHNESS, BOUND), ("Last-Modified", NEWER, *_OF_CALLS))
        case Action.READ | Action.BATCH:
            return ResponseText(text.answer, (*_VALIDATED, *_FRESHNESS), ("Last-Modified", "Vary", *_OF_CALLS))
        case Action.SEND:
            version = ("Campaign-Gateway-Version",) if method.scope == "write" else ()
            return ResponseText(text.answer, (*_FRESHNESS, *version), _OF_CALLS, status="2XX", is_validated=False)
        case Action.PURGE:
            return ResponseText(text.answer, _FRESHNESS, status="2XX", is_validated=False)
        case Action.CHANGES:
            fields = ("Cache-Control", CURSOR)
            return ResponseText(text.answer, fields, also=EVENT_STREAM, also_schema="ChangeEvents", is_validated=False)
        case Action.HINT:
            return ResponseText(text.answer, _FRESHNESS, status="202", is_validated=False)


def _problems(method: Method) -> Iterator[Problem]:
    if method.action in {Action.PURGE, Action.HINT}:
        yield from _BODY
        return
    if method.action is Action.CHANGES:
        yield from (Problem.CURSOR_EXPIRED, Problem.OVERLOADED)
        return
    row = operation(method.name)
    if method.scope == "write" and row.body is not RequestBody.NOTHING:
        yield from _BODY
    elif method.action is Action.SEND:
        yield Problem.UNSUPPORTED_MEDIA_TYPE
    yield from _PLATFORM
    yield NOT_FOUND[row.subject]
    if method.action is Action.READ:
        yield Problem.NOT_CACHED
    if method.scope == "write" or row.body is RequestBody.JSON:
        yield Problem.UPSTREAM_REJECTED


def _of_this_api() -> Iterator[Resource]:
    described = ResponseText(None, ("ETag", "Cache-Control"))
    negotiated = replace(described, headers=(*described.headers, "Vary"), also="text/html")
    about_all = Text(
        "listProblems", "All types of problems", "ProblemGuides", description="A page for people, JSON for programs."
    )
    about_one = Text(
        "getProblemType",
        "What a problem means and what to do",
        "ProblemGuide",
        description="Where the `type` of every problem leads: a page for people, JSON for programs.",
    )
    description = Text("getDescription", "This description", description="Generators of clients read it.")
    page = Text("getPage", "A page to read and try the API", description="For people.")
    rows = (
        Resource("GET", "/openapi.json", description, "Description", described, ()),
        Resource("GET", "/docs", page, "Description", replace(described, media="text/html"), ()),
        Resource("GET", "/problems", about_all, "Description", replace(negotiated, schema=about_all.answer), ()),
        Resource(
            *("GET", "/problems/{name}", about_one, "Description", replace(negotiated, schema=about_one.answer)),
            ("problem",),
            problems=(Problem.NOT_FOUND,),
        ),
    )
    for row in rows:
        for method in ("GET", "HEAD"):
            yield replace(row, method=method, parameters=(*row.parameters, "If-None-Match"))


def _named_by_method(resource: Resource) -> Resource:
    if resource.method != "HEAD":
        return resource
    text = resource.text
    return replace(resource, text=replace(text, id=f"{text.id}Head", summary=f"{text.summary}: headers only"))


RESOURCES: tuple[Resource, ...] = tuple(
    _named_by_method(resource) for resource in (*(row for route in ROUTES for row in _of_route(route)), *_of_this_api())
)
