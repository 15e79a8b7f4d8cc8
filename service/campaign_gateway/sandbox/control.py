"""The control API under `/_sandbox`: what tests in other processes, and people, use to look and to interfere.

Its calls are neither counted against the rate limit nor written into the request log, and need no token: all there is
is invented. Errors are 400, 404 or 405 with `{"error": "what is wrong"}`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from campaign_gateway.sandbox import seeds
from campaign_gateway.sandbox.auth import App, rsa_public_key
from campaign_gateway.sandbox.campaigns import Campaign
from campaign_gateway.sandbox.config import SandboxConfig
from campaign_gateway.sandbox.faults import DEFAULTS, Faults
from campaign_gateway.sandbox.guide import guide
from campaign_gateway.sandbox.journal import Journal, most_in_window
from campaign_gateway.sandbox.limit import SlidingWindow
from campaign_gateway.sandbox.listing import Lists
from campaign_gateway.sandbox.marks import moment
from campaign_gateway.sandbox.operations import OperationName
from campaign_gateway.sandbox.tenant import Tenant

PREFIX = "/_sandbox"

# Other parts rely on these; a user may take away any other field, marks included.
_KEPT_FIELDS = frozenset({"name", "status", "createdAt", "contactLists"})


class ControlError(Exception):
    """A control call that cannot be done; the text is for its caller."""

    def __init__(self, message: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Command:
    """One control call: where it came in, the last part of its path (empty without), query, body (`{}` without)."""

    url: str
    id: str
    query: Mapping[str, str]
    body: dict[str, Any]


Handler = Callable[[Command], Any]
_spread = partial(json.dumps, indent=2)


class Controlled(Protocol):
    """What is controlled: the sandbox, as far as the control API reaches."""

    config: SandboxConfig
    app: App
    tenants: dict[str, Tenant]
    limits: dict[str, SlidingWindow]
    lists: Lists
    faults: Faults
    log: Journal


class Control:
    """The control API of one sandbox."""

    def __init__(self, sandbox: Controlled, *, now: Callable[[], float]) -> None:
        self._sandbox = sandbox
        self._now = now
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", ""): self._index,
            ("GET", "log"): self._log,
            ("DELETE", "log"): self._clear_log,
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("DELETE", "faults/{id}"): self._remove_fault,
            ("GET", "campaigns"): self._campaigns,
            ("POST", "campaigns"): self._create_campaign,
            ("GET", "campaigns/{id}"): self._campaign,
            ("PATCH", "campaigns/{id}"): self._patch_campaign,
            ("DELETE", "campaigns/{id}"): self._delete_campaign,
            ("PUT", "secret"): self._replace_secret,
            ("GET", "limit"): self._limit,
            ("PUT", "limit"): self._set_limit,
            ("GET", "lists"): self._lists,
            ("PUT", "lists"): self._set_lists,
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answers one control call, always with JSON."""
        try:
            url = f"http://{request.host}"
            handler, command = self._understood(request.method, url, request.raw_path, await request.read())
            # One of them is for people.
            return web.json_response(handler(command), dumps=_spread if handler == self._index else json.dumps)
        except ControlError as error:
            return web.json_response({"error": str(error)}, status=error.status)

    def _understood(self, method: str, url: str, target: str, raw: bytes) -> tuple[Handler, Command]:
        path, _, query = target.removeprefix(PREFIX).partition("?")
        name, _, given = path.strip("/").partition("/")
        route = f"{name}/{{id}}" if given else name
        handler = self._routes.get((method, route))
        if handler is None:
            known = [other for other, path in self._routes if path == route]
            if known:
                raise ControlError(f"{PREFIX}/{route} takes {', '.join(known)}", HTTPStatus.METHOD_NOT_ALLOWED)
            raise ControlError(f"no such path; GET {PREFIX} lists them", HTTPStatus.NOT_FOUND)
        try:
            body = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            raise ControlError("the body is not JSON") from None
        if not isinstance(body, dict):
            raise ControlError("the body must be an object")
        return handler, Command(url, unquote(given), dict(parse_qsl(query)), body)

    def _index(self, command: Command) -> Any:
        config = self._sandbox.config
        return {
            "stream_id": config.stream_id,
            "account_id": config.account_id,
            "client_id": config.client_id,
            "algorithm": config.algorithm,
            "streams": list(self._sandbox.tenants),
            "operations": list(OperationName),
            **guide(command.url, [f"{method} {PREFIX}/{path}".rstrip("/") for method, path in self._routes]),
        }

    def _log(self, command: Command) -> Any:
        since = _number(command.query.get("since", "0"), "since")
        log = self._sandbox.log
        arrivals = log.since(int(since))
        window = self._sandbox.limits[self._sandbox.config.account_id].window_seconds
        return {
            "next": log.count,
            "most_in_window": most_in_window((arrival.monotonic for arrival in arrivals), window),
            "window_seconds": window,
            "arrivals": [asdict(arrival) for arrival in arrivals],
        }

    def _clear_log(self, _: Command) -> Any:
        self._sandbox.log.clear()
        return {"next": self._sandbox.log.count}

    def _faults(self, _: Command) -> Any:
        return {"faults": [fault.document() for fault in self._sandbox.faults]}

    def _add_fault(self, command: Command) -> Any:
        if not isinstance(command.body.get("name"), str):
            raise ControlError(f"name must be one of {', '.join(DEFAULTS)}")
        for key in ("operation", "campaign"):
            if not isinstance(command.body.get(key, ""), str | None):
                raise ControlError(f"{key} must be text")
        options = {key: value for key, value in command.body.items() if key != "name"}
        try:
            return self._sandbox.faults.add(command.body["name"], **options).document()
        except ValueError as error:
            raise ControlError(str(error)) from error

    def _clear_faults(self, _: Command) -> Any:
        self._sandbox.faults.clear()
        return {"faults": []}

    def _remove_fault(self, command: Command) -> Any:
        if not self._sandbox.faults.remove(int(_number(command.id, "the fault's id"))):
            raise ControlError("no fault with this id", HTTPStatus.NOT_FOUND)
        return {"removed": command.id}

    def _campaigns(self, command: Command) -> Any:
        return {"campaigns": [_shown(campaign) for campaign in self._tenant(command).campaigns.all()]}

    def _campaign(self, command: Command) -> Any:
        return _shown(self._existing(command))

    def _create_campaign(self, command: Command) -> Any:
        tenant = self._tenant(command)
        fields = dict(command.body)
        form, name = fields.pop("form", "Agentless"), fields.get("name", "Made by Hand")
        if form not in seeds.FORMS:
            raise ControlError(f"form must be one of {', '.join(seeds.FORMS)}")
        _check_fields(fields)
        dnc = tenant.contact_lists.by_name(seeds.DNC_LIST_NAME)
        made = seeds.campaign_fields(tenant.rng, form, str(name), dnc_list_id=dnc.id if dnc else "")
        campaign = tenant.campaigns.create(seeds.kind_of(form), merged(made, fields))
        if "status" in fields:
            campaign = tenant.campaigns.edit(campaign.id, {"status": fields["status"]}, quiet=True) or campaign
        return _shown(campaign)

    def _patch_campaign(self, command: Command) -> Any:
        """A merge patch (RFC 7396): objects merge, null takes away."""
        campaign = self._existing(command)
        _check_fields(command.body)
        fields = merged(campaign.fields, command.body)
        changes = {key: fields[key] for key in command.body if key in fields}
        edited = self._tenant(command).campaigns.edit(
            campaign.id,
            changes,
            without=frozenset(command.body) - frozenset(changes),
            quiet=command.query.get("quiet") == "true",
        )
        return _shown(edited or campaign)

    def _delete_campaign(self, command: Command) -> Any:
        campaign = self._existing(command)
        self._tenant(command).campaigns.delete(campaign.id)
        return {"deleted": campaign.id}

    def _replace_secret(self, command: Command) -> Any:
        key = "secret" if self._sandbox.app.algorithm.startswith("HS") else "public_key"
        value = command.body.get(key)
        if not isinstance(value, str) or not value or len(command.body) != 1:
            raise ControlError(f"the body must be an object with {key} alone, as text")
        if key == "public_key":
            _check_public_key(value)
        setattr(self._sandbox.app, key, value)
        return {"replaced": key}

    def _limit(self, _: Command) -> Any:
        accounts = self._sandbox.limits
        first = accounts[self._sandbox.config.account_id]
        return {
            "calls": first.calls,
            "window_seconds": first.window_seconds,
            "count_refused": first.count_refused,
            "used": {account: limit.used(self._now()) for account, limit in accounts.items()},
        }

    def _set_limit(self, command: Command) -> Any:
        unknown = command.body.keys() - {"calls", "window_seconds", "count_refused"}
        if unknown:
            raise ControlError(f"the limit has no {', '.join(sorted(unknown))}")
        first = self._sandbox.limits[self._sandbox.config.account_id]
        calls = _number(command.body.get("calls", first.calls), "calls")
        window_seconds = _number(command.body.get("window_seconds", first.window_seconds), "window_seconds")
        count_refused = command.body.get("count_refused", first.count_refused)
        if calls != int(calls) or not window_seconds or not isinstance(count_refused, bool):
            raise ControlError("calls must be a whole number, window_seconds positive, count_refused a boolean")
        for limit in self._sandbox.limits.values():
            limit.calls, limit.window_seconds, limit.count_refused = int(calls), window_seconds, count_refused
        return self._limit(command)

    def _lists(self, _: Command) -> Any:
        return asdict(self._sandbox.lists)

    def _set_lists(self, command: Command) -> Any:
        unknown = command.body.keys() - {"page_rows"}
        if unknown:
            raise ControlError(f"lists have no {', '.join(sorted(unknown))}")
        page_rows = _number(command.body.get("page_rows", self._sandbox.lists.page_rows), "page_rows")
        if page_rows < 1 or page_rows != int(page_rows):
            raise ControlError("page_rows must be a whole number from 1")
        self._sandbox.lists.page_rows = int(page_rows)
        return self._lists(command)

    def _tenant(self, command: Command) -> Tenant:
        stream_id = command.query.get("stream", self._sandbox.config.stream_id)
        tenant = self._sandbox.tenants.get(stream_id)
        if tenant is None:
            raise ControlError(f"no such stream; known: {', '.join(self._sandbox.tenants)}", HTTPStatus.NOT_FOUND)
        return tenant

    def _existing(self, command: Command) -> Campaign:
        campaign = self._tenant(command).campaigns.get(command.id)
        if campaign is None:
            raise ControlError("no campaign with this id", HTTPStatus.NOT_FOUND)
        return campaign


def merged(target: Any, patch: Any) -> Any:
    """A JSON value with a merge patch applied, as RFC 7396 section 2 has it."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _shown(campaign: Campaign) -> dict[str, Any]:
    """Every field of a campaign, whichever projection shows it."""
    due = campaign.due and {"at": campaign.due.at, "status": campaign.due.status}
    return {"id": campaign.id, "type": campaign.kind, "due": due, "fields": dict(campaign.fields)}


def _check_fields(fields: Mapping[str, Any]) -> None:
    for key in _KEPT_FIELDS & fields.keys():
        value = fields[key]
        if key == "contactLists":
            fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
        else:
            fits = isinstance(value, str) and (key != "createdAt" or _is_moment(value))
        if not fits:
            raise ControlError(f"{key} must keep its form")


def _check_public_key(pem: str) -> None:
    try:
        rsa_public_key(pem)
    except ValueError:
        raise ControlError("public_key must be an RSA key in PEM") from None


def _is_moment(text: str) -> bool:
    try:
        moment(text)
    except ValueError:
        return False
    return True


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf") or isinstance(value, bool):
        raise ControlError(f"{what} must be a number from 0")
    return number
