import json
import re

import pytest

from campaign_gateway.contract.answers import Response
from campaign_gateway.policy.decide import Detail, Fwd
from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import make_etag
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.writers import format_write_token
from tests.support.doubles import START

BODY = b'{"data": {"_id": "c-1"}}'
MISS = Outcome(Fwd.URI_MISS, 200, stored=True, ttl=30.0)
OTHER_KEY = "cgk_operations"
A = "/campaign/api/v2/public/st-1"
B = "/agentassist/api/v1/public/st-1"
C = "/campaign/api/v1/public/st-1"
D = "/api/v2/public/st-1"


def problem_of(answer) -> str:
    assert answer["Content-Type"] == "application/problem+json"
    document = json.loads(answer.body)
    assert document["status"] == answer.status
    assert document["request_id"] == answer["X-Request-ID"]
    return str(document["type"]).removeprefix("/problems/")


def lines(caplog) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.name == "campaign_gateway.requests"]


# From a request to an ask.


async def test_a_read_becomes_a_request_and_its_reply_an_answer(front):
    answer = await front.ask()
    assert (answer.status, answer.body) == (200, BODY)
    (asked,) = front.exchange.requests
    assert (asked.stream.alias, asked.operation.name, asked.id, asked.client) == ("support", "get", "c-1", "reporting")
    assert asked.directives == RequestDirectives()


async def test_a_stream_in_the_path_is_the_one_asked(front):
    await front.ask("/v1/streams/sales/campaigns/c-1", key=OTHER_KEY)
    assert [asked.stream.alias for asked in front.exchange.requests] == ["sales"]


async def test_an_encoded_but_plain_id_is_the_plain_one(front):
    await front.ask("/v1/campaigns/%63d-1")
    assert [asked.id for asked in front.exchange.requests] == ["cd-1"]


@pytest.mark.parametrize(
    ("fields", "directives"),
    [
        (["Cache-Control: no-cache"], RequestDirectives(no_cache=True)),
        (["Cache-Control: max-age=5", "Cache-Control: min-fresh=2"], RequestDirectives(max_age=5, min_fresh=2)),
        (["cache-control: only-if-cached, max-stale"], RequestDirectives(only_if_cached=True, max_stale=float("inf"))),
        (["Pragma: no-cache"], RequestDirectives(no_cache=True)),
        (["Pragma: no-cache", "Cache-Control: max-age=5"], RequestDirectives(max_age=5)),
    ],
)
async def test_the_callers_directives_come_along(front, fields, directives):
    await front.ask("/v1/campaigns/c-1", *fields)
    assert front.exchange.requests[0].directives == directives


@pytest.mark.parametrize(
    "field", ["auth: forged", "iid: other-app", "accountId: other-account", "X-Forwarded-For: 1.2.3.4"]
)
async def test_tenant_fields_of_the_caller_change_nothing(front, field):
    assert (await front.ask("/v1/campaigns/c-1", field)).status == 200
    assert front.exchange.requests[0].stream is front.streams["support"]


async def test_head_is_the_same_without_the_body(front):
    whole, head = await front.ask(), await front.ask(method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head["Content-Length"] == str(len(BODY))
    assert {name for name in head.fields if name != "X-Request-ID"} == {
        name for name in whole.fields if name != "X-Request-ID"
    }


async def test_a_good_copy_gets_a_304(front):
    answer = await front.ask("/v1/campaigns/c-1", f"If-None-Match: {make_etag(BODY)}")
    assert (answer.status, answer["ETag"]) == (304, make_etag(BODY))
    assert len(front.exchange.requests) == 1


async def test_a_failed_read_is_its_problem(front):
    front.exchange.reply = Reply(Outcome(), failure=Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=3.2))
    answer = await front.ask()
    assert (answer.status, problem_of(answer), answer["Retry-After"]) == (503, "budget-exhausted", "4")


# Who may.


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        pytest.param(None, [], id="no-key"),
        pytest.param("cgk_wrong", [], id="wrong-key"),
        pytest.param("cgk_reporting", ["Authorization: Bearer cgk_operations"], id="two-keys"),
        pytest.param(None, ["Authorization: Basic cmVwb3J0aW5n"], id="another-scheme"),
        pytest.param(None, [b"Authorization: Bearer cgk_\xff\xfe"], id="bytes"),
        pytest.param(None, ["Cookie: key=cgk_reporting"], id="a-cookie"),
        pytest.param(None, ["X-Api-Key: cgk_reporting"], id="another-field"),
    ],
)
async def test_without_one_good_key_nothing_is_asked(front, key, fields):
    answer = await front.ask("/v1/campaigns/c-1", *fields, key=key)
    assert (answer.status, problem_of(answer)) == (401, "unauthenticated")
    assert answer["WWW-Authenticate"] == "Bearer"
    assert front.exchange.requests == []


async def test_a_key_in_the_query_is_no_key(front):
    assert (await front.ask("/v1/campaigns/c-1?key=cgk_reporting", key=None)).status == 401


@pytest.mark.drill(
    "a client looks for streams that are not its own",
    planted="another's alias, one that nobody has, the platform's ids of both",
    seen="one answer for all",
)
async def test_a_stream_that_is_not_the_clients_is_forbidden_whether_it_exists_or_not(front):
    for targets in (
        [f"/v1/streams/{alias}/campaigns/c-1" for alias in ("sales", "none", "..%2f", "%00")],
        [f"/campaign/api/v2/public/{stream}/campaign/c-1?accountId=a" for stream in ("st-2", "st-none")],
    ):
        answers = [await front.ask(target, "X-Request-ID: r-1") for target in targets]
        assert {(answer.status, answer.body) for answer in answers} == {(403, answers[0].body)}
    assert front.exchange.requests == []


async def test_another_clients_stream_is_forbidden_and_its_campaigns_unasked(front):
    answer = await front.ask("/v1/streams/sales/campaigns/c-1")
    assert (answer.status, problem_of(answer)) == (403, "forbidden")
    assert front.exchange.requests == []
    for name in ("st-2", "acc-2", "app-2", "identity-2"):
        assert name.encode() not in answer.head + answer.body


async def test_strangers_learn_nothing_of_routes_and_streams(front):
    targets = ["/v1/campaigns/c-1", "/nothing", "/v1/streams/none/campaigns/c-1", "/v1/campaigns/..%2f"]
    assert [(await front.ask(target, key=None)).status for target in targets] == [401] * 4


async def test_without_a_default_a_path_must_name_its_stream(serve):
    async with serve(default_stream=None) as front:
        answer = await front.ask()
        assert (answer.status, problem_of(answer)) == (404, "unknown-stream")
        assert (await front.ask("/v1/streams/support/campaigns/c-1")).status == 200


@pytest.mark.drill(
    "a page of another site, and no client keys",
    planted="`Sec-Fetch-Site`, `Origin`",
    seen="403, and nothing is asked",
)
@pytest.mark.parametrize(
    ("fields", "is_refused"),
    [
        ((), False),
        (("Sec-Fetch-Site: same-origin", "Origin: http://gateway"), False),
        (("Sec-Fetch-Site: none",), False),
        (("Origin: http://gateway",), False),
        (("Origin: http://GATEWAY",), False),
        (("Sec-Fetch-Site: cross-site",), True),
        (("Sec-Fetch-Site: same-site", "Origin: http://gateway"), True),
        (("Origin: http://evil.example",), True),
        (("Origin: http://gateway:81",), True),
        (("Origin: null",), True),
    ],
)
async def test_without_keys_no_page_of_another_site_gets_in(serve, fields, is_refused):
    async with serve(anonymous=True) as front:
        for _ in range(3):
            answer = await front.ask("/v1/campaigns/c-1", *fields, key=None)
            assert answer.status == (403 if is_refused else 200)
        assert bool(front.exchange.requests) is not is_refused
    async with serve() as front:
        assert (await front.ask("/v1/campaigns/c-1", *fields)).status == 200, "a key is proof enough"


async def test_anonymous_callers_get_in_where_that_is_set(serve):
    async with serve(anonymous=True) as front:
        assert (await front.ask(key=None)).status == 200
        assert front.exchange.requests[0].client == "anonymous"


# Bad input (promise 10).


@pytest.mark.parametrize(
    "segment",
    [
        b"..%2f..%2fadmin",
        b"%00",
        b"%0d%0aX-Evil:1",
        b"x" * 10_000,
        "é".encode(),
        b"%C3%A9",
        b"\xff",
        b"%ff",
        b".",
        b"..",
        b"...",
        b"%2e%2e",
        b"a%20b",
        b"c-1#part",
        b"%",
        b"c-1;v=1",
    ],
    ids=lambda segment: segment[:20].decode("latin-1").encode("ascii", "backslashreplace").decode(),
)
async def test_an_id_that_is_none_is_a_400_and_never_an_upstream_call(front, segment):
    answer = await front.ask(b"/v1/campaigns/" + segment)
    assert (answer.status, problem_of(answer)) == (400, "invalid-request")
    assert front.exchange.requests == []
    assert segment == b"%" or segment in {b".", b".."} or segment not in answer.body


@pytest.mark.parametrize(
    ("target", "status", "problem"),
    [
        ("/v1/campaigns/", 404, "not-found"),
        ("/v1/campaigns/c-1/", 404, "not-found"),
        ("//v1/campaigns/c-1", 404, "not-found"),
        ("/v1/campaigns/c-1?a=b", 400, "invalid-request"),
        ("/v1/streams/..%2f/campaigns/c-1", 403, "forbidden"),
        ("/v1/streams/%00/campaigns/c-1", 403, "forbidden"),
    ],
)
async def test_a_target_that_is_none_is_a_problem(front, target, status, problem):
    answer = await front.ask(target)
    assert (answer.status, problem_of(answer)) == (status, problem)
    assert front.exchange.requests == []


@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPFIND"])
async def test_a_method_that_is_not_taken_is_told_the_others(front, method):
    answer = await front.ask(method=method)
    assert (answer.status, problem_of(answer), answer["Allow"]) == (405, "method-not-allowed", "DELETE, GET, HEAD, PUT")
    assert front.exchange.requests == front.forwarder.requests == []


@pytest.mark.parametrize(
    ("target", "allow"),
    [
        ("/v1/campaigns/c-1?fields=name", "DELETE, GET, HEAD, PUT, OPTIONS"),
        ("/v1/streams/support/contacts", "POST, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/campaign/api/v2/public/st-1/campaign/cd-1", "DELETE, GET, HEAD, POST, PUT, OPTIONS"),
    ],
)
@pytest.mark.parametrize("key", [None, "cgk_reporting"])
async def test_options_are_told_without_a_key(front, target, allow, key):
    answer = await front.ask(target, method="OPTIONS", key=key)
    assert (answer.status, answer.body, answer["Allow"]) == (204, b"", allow)
    assert front.exchange.requests == front.forwarder.requests == []


async def test_there_are_no_options_where_there_is_nothing(front):
    answer = await front.ask("/v1/nothing", method="OPTIONS", key=None)
    assert (answer.status, problem_of(answer)) == (404, "not-found")


# The request id.


@pytest.mark.parametrize("given", ["a", "0af7651916cd43dd8448eb211c80319c", "A.b_c:d-1", "x" * 128])
async def test_a_sane_request_id_is_the_callers(front, given):
    assert (await front.ask("/v1/campaigns/c-1", f"X-Request-ID: {given}"))["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a,b", "<script>", "ü", 'a"b', "a\tb"])
async def test_any_other_is_replaced(front, given):
    made = (await front.ask("/v1/campaigns/c-1", f"X-Request-ID: {given}".encode()))["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", made or "")


async def test_each_request_without_one_gets_its_own(front):
    assert (await front.ask())["X-Request-ID"] != (await front.ask())["X-Request-ID"]


# What metrics and log show.


@pytest.mark.parametrize(
    ("reply", "cache"),
    [
        (Outcome(ttl=1.0), "hit"),
        (Outcome(ttl=-1.0, detail=Detail.STALE_WHILE_REVALIDATE), "stale"),
        (MISS, "miss"),
        (Outcome(Fwd.REQUEST, 200, stored=True, ttl=30.0), "revalidated"),
        (Outcome(Fwd.STALE, 500, ttl=-90.0, detail=Detail.STALE_IF_ERROR), "revalidated"),
    ],
)
async def test_each_answer_is_counted_once_by_what_the_cache_did(front, reply, cache):
    front.exchange.reply = Reply(reply, front.exchange.reply.entry, None, 10.0, 30.0)
    await front.ask()
    assert front.meter.events == {("request", "get", "reporting", "200", cache): 1, ("served", "get"): 1}
    assert front.meter.ages == [10.0]


async def test_refusals_are_counted_under_closed_labels(front):
    await front.ask(key=None)
    await front.ask("/nothing/cgk_reporting")
    await front.ask("/v1/campaigns/..")
    await front.ask("/v1/streams/sales/campaigns/c-1")
    await front.ask(method="PROPFIND")
    assert front.meter.events == {
        ("request", "get", "none", "401", "none"): 1,
        ("request", "none", "reporting", "404", "none"): 1,
        ("request", "get", "reporting", "400", "none"): 1,
        ("request", "get", "reporting", "403", "none"): 1,
        ("request", "none", "reporting", "405", "none"): 1,
    }


async def test_the_log_line_tells_the_outcome_and_no_secret(front, caplog):
    caplog.set_level("INFO")
    front.exchange.reply = Reply(MISS, front.exchange.reply.entry, None, 0.4, 30.0)
    answer = await front.ask("/v1/campaigns/c-1", "X-Request-ID: r-1", "Cookie: s=hush")
    (line,) = lines(caplog)
    assert isinstance(line.pop("milliseconds"), float)
    assert line == {
        "request_id": "r-1",
        "method": "GET",
        "operation": "get",
        "client": "reporting",
        "stream": "support",
        "campaign": "c-1",
        "status": 200,
        "cache": "miss",
        "fwd": "uri-miss",
        "age": 0,
    }
    assert answer["X-Request-ID"] == "r-1"
    for secret in ("cgk_reporting", "hush", "Bearer"):
        assert secret not in caplog.text + repr(lines(caplog))


async def test_what_is_refused_has_a_log_line_without_what_was_sent(front, caplog):
    caplog.set_level("INFO")
    await front.ask("/v1/campaigns/%2e%2ecgk_in-the-path?phone=491701234567", "X-Request-ID: r-1")
    (line,) = lines(caplog)
    assert (line["status"], line["operation"], line["request_id"]) == (400, "get", "r-1")
    for text in ("cgk_", "491701234567"):
        assert text not in caplog.text + repr(line)


# Trouble of our own.


async def test_a_defect_is_a_500_that_tells_nothing_and_can_be_found_in_the_log(front, caplog):
    front.exchange.reply = LookupError("what must not be told")
    answer = await front.ask()
    assert (answer.status, problem_of(answer)) == (500, "internal")
    assert b"what must not" not in answer.body + answer.head
    assert answer["Server"] == "campaign-gateway"
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].exc_info
    assert [event[3] for event in front.meter.events.elements()] == ["500"]


async def test_the_request_id_of_a_500_finds_its_line_in_the_log(front, caplog):
    """That is what its detail says."""
    caplog.set_level("INFO")
    front.exchange.reply = LookupError("a defect")
    answer = await front.ask("/v1/campaigns/c-1", "X-Request-ID: r-1")
    assert answer["X-Request-ID"] == "r-1"
    assert "r-1" in {line["request_id"] for line in lines(caplog)}


# Draining.


async def test_while_draining_each_answer_closes_its_connection(front):
    async with front.connection() as (reader, writer):
        request = b"GET /v1/campaigns/c-1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer cgk_reporting\r\n\r\n"
        writer.write(request)
        assert b"Connection: close" not in await reader.readuntil(b"}}")
        front.api.is_draining = True
        writer.write(request)
        last = await reader.read()
        assert last.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in last


# The caller's own share of the budget.


@pytest.mark.parametrize(
    ("outcome", "is_told"),
    [
        pytest.param(Outcome(ttl=9.0), False, id="a-hit-costs-nothing"),
        pytest.param(Outcome(Fwd.URI_MISS, 200, stored=True, ttl=9.0), True, id="a-call-was-made"),
        pytest.param(Outcome(Fwd.URI_MISS, 200, collapsed=True, ttl=9.0), False, id="another-ones-call"),
        pytest.param(Outcome(ttl=-9.0, detail=Detail.BUDGET), True, id="kept-from-a-call-by-the-budget"),
        pytest.param(Outcome(ttl=-9.0, detail=Detail.PAUSED), True, id="kept-from-a-call-by-a-pause"),
    ],
)
async def test_an_answer_that_concerns_the_share_tells_it(front, outcome, is_told):
    front.exchange.reply = Reply(outcome, front.exchange.reply.entry, None, 1.0, 10.0)
    answer = await front.ask()
    assert (answer["RateLimit"] is not None) is is_told
    if is_told:
        assert answer["RateLimit"] == '"calls";r=7;t=13'
        assert answer["RateLimit-Policy"] == '"calls";q=20;w=60'


# What is sent on.


async def write(front, target, *fields, method="POST", body=b"{}", key=OTHER_KEY):
    return await front.ask(target, *fields, method=method, body=body, key=key)


def sent(front) -> list[tuple[object, ...]]:
    """Name, family, id, values and body of each call that was sent on."""
    return [
        (asked.operation.name, asked.operation.family.name, asked.id, dict(asked.values), asked.body)
        for asked in front.forwarder.requests
    ]


CREATE = b'{ "name": "x", "campaignType": "voice", "dialingMode": "Preview" }'


@pytest.mark.parametrize(
    ("method", "target", "body", "call"),
    [
        ("POST", "/v1/campaigns", CREATE, ("create", "A", "", {"type": "voice"}, CREATE)),
        ("POST", "/v1/campaigns?type=sms", b'{"a":1}', ("create", "A", "", {"type": "sms"}, b'{"a":1}')),
        (
            *("POST", "/v1/campaigns", b'{"format": "advanced"}'),
            ("create", "D", "", {"type": "sms"}, b'{"format": "advanced"}'),
        ),
        ("PUT", "/v1/campaigns/cd-1", CREATE, ("update", "A", "cd-1", {"type": "voice"}, CREATE)),
        ("DELETE", "/v1/campaigns/cd-1?type=sms", b"", ("delete", "A", "cd-1", {"type": "sms"}, None)),
        ("POST", "/v1/campaigns/cd-1/start?type=voice", b"", ("start", "D", "cd-1", {"type": "voice"}, None)),
        ("POST", "/v1/campaigns/cd-1/start?type=sms", b"{}", ("start", "A", "cd-1", {"type": "sms"}, b"{}")),
        ("POST", "/v1/campaigns/cd-1/stop?type=voice", b"", ("stop", "D", "cd-1", {"type": "voice"}, None)),
        ("POST", "/v1/campaigns/cd-1/stop?type=sms", b"", ("stop", "A", "cd-1", {"type": "sms"}, None)),
        ("POST", "/v1/schedules?campaignName=a+b", b"{}", ("schedule-on", "A", "", {"name": "a b"}, b"{}")),
        ("DELETE", "/v1/schedules?campaignName=a", b"", ("schedule-off", "A", "", {"name": "a"}, None)),
        ("POST", "/v1/campaign-instances/cid-1/call-backs", b"[{}]", ("call-back", "A", "cid-1", {}, b"[{}]")),
        ("POST", "/v1/contact-lists", b"{}", ("contact-list-create", "A", "", {}, b"{}")),
        ("PUT", "/v1/contact-lists/cl-1", b"{}", ("contact-list-update", "A", "cl-1", {}, b"{}")),
        ("DELETE", "/v1/contact-lists/cl-1", b"", ("contact-list-delete", "A", "cl-1", {}, None)),
        ("POST", "/v1/contacts", b"{}", ("contacts-add", "E", "", {}, b"{}")),
        ("GET", "/v1/campaigns/cd-1/outcomes", b"", ("outcomes", "A", "cd-1", {}, b'{"page":1,"limit":100}')),
        ("GET", "/v1/campaigns/cd-1/outcomes?page=2", b"", ("outcomes", "A", "cd-1", {}, b'{"page":2,"limit":100}')),
        ("GET", "/v1/contact-lists/cl-1/contacts", b"", ("contacts", "A", "cl-1", {}, None)),
        # The platform's own paths.
        ("POST", f"{A}/campaign?campaignType=voice", b'{"a":1}', ("create", "A", "", {"type": "voice"}, b'{"a":1}')),
        ("POST", f"{B}/campaign?campaignType=sms", b'{"a":1}', ("create", "B", "", {"type": "sms"}, b'{"a":1}')),
        ("POST", f"{A}/campaign", CREATE, ("create", "A", "", {"type": "voice"}, CREATE)),
        ("PUT", f"{A}/campaign/cd-1?campaignType=sms", CREATE, ("update", "A", "cd-1", {"type": "sms"}, CREATE)),
        ("POST", f"{D}/campaign/trigger/cd-1?campaignType=voice&trigger=play", b"", ("start", "D", "cd-1", {}, None)),
        ("POST", f"{A}/campaign/cd-1?campaignType=sms&trigger=play", b"{}\n", ("start", "A", "cd-1", {}, b"{}\n")),
        (
            *("POST", f"{C}/campaign/cd-1?campaignType=sms&trigger=stop", b""),
            ("stop", "C", "cd-1", {"type": "sms"}, None),
        ),
        (
            *("GET", f"{A}/campaign/cd-1/status?view=contacts", b'{"page":1,"limit":5}'),
            ("outcomes", "A", "cd-1", {}, b'{"page":1,"limit":5}'),
        ),
    ],
)
async def test_what_is_sent_on_goes_to_its_place_as_it_came(front, method, target, body, call):
    answer = await write(front, target, method=method, body=body)
    assert answer.status == 200
    assert sent(front) == [call]
    assert front.forwarder.looked_at == [], "the request says whether it is for voice or SMS"
    assert front.exchange.requests == []


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/v1/campaigns/cd-1/start", b""),
        ("POST", "/v1/campaigns/cd-1/stop", b"{}"),
        ("DELETE", "/v1/campaigns/cd-1", b""),
        ("PUT", "/v1/campaigns/cd-1", b'{"name":"x"}'),
        ("DELETE", f"{B}/campaign/cd-1", b""),
        ("POST", f"{C}/campaign/cd-1?trigger=play", b""),
    ],
)
@pytest.mark.parametrize("channel", ["voice", "sms"])
async def test_where_the_request_does_not_say_the_campaign_does(front, method, target, body, channel):
    front.forwarder.found = channel
    await write(front, target, method=method, body=body)
    assert front.forwarder.looked_at == [("support", "cd-1")]
    (asked,) = front.forwarder.requests
    assert asked.values == {"type": channel}
    assert asked.operation.parameters.get("campaignType") in {None, "{type}", channel}


async def test_a_campaign_that_nobody_knows_is_not_written_to(front):
    front.forwarder.found = Reply(Outcome(), failure=Failure(Problem.CAMPAIGN_NOT_FOUND, "none"))
    answer = await write(front, "/v1/campaigns/cd-1/start")
    assert (answer.status, problem_of(answer)) == (404, "campaign-not-found")
    assert front.forwarder.requests == []


async def test_a_create_that_shows_no_kind_is_asked_for_it(front):
    answer = await write(front, "/v1/campaigns", body=b'{"name": "x"}')
    assert (answer.status, problem_of(answer)) == (400, "invalid-request")
    assert front.forwarder.requests == []


async def test_the_answer_to_a_write_is_the_platforms_own_and_carries_its_version(front):
    front.forwarder.reply = Reply(
        Outcome(Fwd.METHOD, 201), passed=Response(201, "text/html", b'{"status": "success"}'), written_at=START
    )
    answer = await write(front, "/v1/campaigns?type=voice")
    assert (answer.status, answer.body) == (201, b'{"status": "success"}')
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "no-store"
    assert answer["Cache-Status"] == "campaign-gateway; fwd=method; fwd-status=201"
    assert answer["Campaign-Gateway-Version"] == format_write_token(START)
    assert answer["RateLimit"] is not None
    for field in ("ETag", "Age", "Last-Modified"):
        assert answer[field] is None


async def test_personal_data_is_not_to_be_kept(front):
    front.forwarder.reply = Reply(Outcome(Fwd.BYPASS, 200), passed=Response(200, "application/json", b"{}"))
    for target in ("/v1/campaigns/cd-1/outcomes", "/v1/contact-lists/cl-1/contacts"):
        answer = await front.ask(target)
        assert answer["Cache-Control"] == "no-store"
        assert answer["Cache-Status"] == "campaign-gateway; fwd=bypass; fwd-status=200"
        assert answer["Campaign-Gateway-Version"] is None


async def test_a_refused_write_is_422_with_the_platforms_words_and_a_version(front):
    failure = Failure(
        Problem.UPSTREAM_REJECTED, "refused", upstream_status=412, upstream_code="412", upstream_message="V"
    )
    front.forwarder.reply = Reply(Outcome(Fwd.METHOD, 412), failure=failure, written_at=START)
    answer = await write(front, "/v1/campaigns?type=voice")
    document = json.loads(answer.body)
    assert (answer.status, problem_of(answer)) == (422, "upstream-rejected")
    assert (document["upstream_status"], document["upstream_code"], document["upstream_message"]) == (412, "412", "V")
    assert answer["Campaign-Gateway-Version"] == format_write_token(START)


# Tokens of writes.


async def test_a_version_that_comes_back_is_a_request_for_something_newer(front):
    await front.ask("/v1/campaigns/c-1", f"Campaign-Gateway-Version: {format_write_token(START)}")
    assert front.exchange.requests[0].directives == RequestDirectives(newer_than=START)


async def test_of_several_versions_the_last_counts(front):
    fields = [f"Campaign-Gateway-Version: {format_write_token(START + late)}" for late in (1, 2, 0)]
    await front.ask("/v1/campaigns/c-1", *fields, "Cache-Control: max-age=5")
    assert front.exchange.requests[0].directives == RequestDirectives(max_age=5, newer_than=START + 2)


@pytest.mark.parametrize("token", ["", "x", "1.5", "-1", "0x1", "F", "f" * 21, "6 6", "\u0661"])
async def test_a_version_that_is_none_is_refused(front, token):
    answer = await front.ask("/v1/campaigns/c-1", f"Campaign-Gateway-Version: {token}".encode())
    assert (answer.status, problem_of(answer)) == (400, "invalid-request")
    assert front.exchange.requests == []


async def test_the_parts_of_a_batch_are_held_to_it_too(front):
    await front.ask("/v1/campaigns?ids=a,b", f"Campaign-Gateway-Version: {format_write_token(START)}")
    assert [asked.directives.newer_than for asked in front.exchange.requests] == [START, START]


# Scopes.

WRITES = [
    ("POST", "/v1/campaigns?type=sms"),
    ("PUT", "/v1/campaigns/a"),
    ("DELETE", "/v1/campaigns/a"),
    ("POST", "/v1/campaigns/a/start"),
    ("POST", "/v1/campaigns/a/stop"),
    ("POST", "/v1/schedules?campaignName=a"),
    ("DELETE", "/v1/schedules?campaignName=a"),
    ("POST", "/v1/campaign-instances/a/call-backs"),
    ("POST", "/v1/contact-lists"),
    ("PUT", "/v1/contact-lists/a"),
    ("DELETE", "/v1/contact-lists/a"),
    ("POST", "/v1/contacts"),
    ("POST", "/v1/purge"),
    ("POST", "/v1/changed"),
    ("POST", f"{A}/campaign"),
    ("POST", f"{A}/campaign/a?campaignType=sms&trigger=play"),
    ("POST", f"{C}/campaign/a?campaignType=sms&trigger=play"),
    ("DELETE", f"{A}/campaign/a"),
]


@pytest.mark.parametrize(("method", "target"), WRITES)
async def test_a_client_that_may_only_read_changes_nothing(front, method, target):
    answer = await front.ask(target, method=method, body=b"{}")
    assert answer.status == 403
    scope = b"purge" if target in {"/v1/purge", "/v1/changed"} else b"write"
    assert b"lacks the scope " + scope in answer.body
    assert (
        front.forwarder.requests
        == front.exchange.requests
        == front.forwarder.looked_at
        == front.invalidator.purges
        == []
    )
    assert front.hints.given == []


# Purges.


@pytest.mark.parametrize(
    ("body", "campaigns"), [(b'{"all": true}', None), (b'{"campaigns": ["b", "a", "b"]}', ["b", "a"])]
)
async def test_a_purge_is_of_some_or_all(front, body, campaigns):
    answer = await write(front, "/v1/streams/sales/purge", body=body)
    assert answer.status == 200
    assert front.invalidator.purges == [("sales", campaigns, "operations")]
    assert json.loads(answer.body) == {"purged": campaigns or "all"}
    assert answer["Cache-Control"] == "no-store"
    assert "detail" not in answer["Cache-Status"]


async def test_a_purge_that_other_replicas_do_not_know_of_says_so(front):
    front.invalidator.is_shared = False
    answer = await write(front, "/v1/purge", body=b'{"all": true}')
    assert answer.status == 202
    assert answer["Cache-Status"].endswith("; detail=unshared")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"all": false}', b'{"all": 1}', b'{"campaigns": []}', b'{"campaigns": "a"}'),
        *(b'{"campaigns": ["a/b"]}', b'{"campaigns": [1]}', b'{"all": true, "campaigns": ["a"]}'),
        *(b'{"campaigns": ["a"], "x": 1}', json.dumps({"campaigns": ["a"] * 1001}).encode()),
    ],
)
async def test_a_purge_of_anything_else_is_refused(front, body):
    answer = await write(front, "/v1/purge", body=body)
    assert answer.status in {400, 413}
    assert front.invalidator.purges == []


# Hints.


async def test_a_hint_is_of_some_campaigns_and_is_taken_for_later(front):
    answer = await write(front, "/v1/streams/sales/changed", body=b'{"campaigns": ["b", "a", "b"]}')
    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": ["b", "a"]})
    assert front.hints.given == [("sales", ["b", "a"], "operations")]
    assert (answer["Cache-Control"], answer["Content-Type"]) == ("no-store", "application/json")
    assert front.meter.of("request", "changed", "operations", "202") == 1


async def test_a_hint_of_a_thousand_is_taken(serve):
    ids = [f"c{number}" for number in range(1000)]
    async with serve(max_request=10_000) as front:
        answer = await write(front, "/v1/changed", body=json.dumps({"campaigns": ids}).encode())
        assert answer.status == 202
        assert front.hints.given == [("support", ids, "operations")]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"all": true}', b'{"campaigns": []}', b'{"campaigns": "a"}', b'{"campaigns": null}'),
        *(b'{"campaigns": ["a/b"]}', b'{"campaigns": [1]}', b'{"campaigns": ["a"], "x": 1}'),
        json.dumps({"campaigns": ["a"] * 1001}).encode(),
    ],
)
async def test_a_hint_of_anything_else_is_refused(front, body):
    answer = await write(front, "/v1/changed", body=body)
    assert answer.status in {400, 413}
    assert front.hints.given == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_hint_is_posted(front, method):
    answer = await front.ask("/v1/changed", method=method, key=OTHER_KEY)
    assert (answer.status, answer["Allow"]) == (405, "POST")


# The platform's own paths.


def error_of(answer) -> dict[str, object]:
    assert answer["Content-Type"] == "application/json"
    (error,) = json.loads(answer.body)["errors"]
    return dict(error)


async def test_a_read_by_the_platforms_path_is_the_same_question(front):
    list_of = b'{"type": "sms", "limit": "", "page": 2}'
    await front.ask("/v1/campaigns/cd-1")
    await front.ask(f"{A}/campaign/cd-1?accountId=x")
    await front.ask("/v1/campaigns?type=sms&page=2")
    await front.ask(f"{A}/campaign/getAllCampaignDetails", method="POST", body=list_of)
    await front.ask("/v1/campaigns/cd-1/status")
    await front.ask(f"{A}/campaign/cd-1/status?view=status", method="POST", body=b"{}\n")
    await front.ask("/v1/contact-lists")
    await front.ask(f"{A}/campaign/contactList/getAllListDetails?type=call")
    keys = [asked.key for asked in front.exchange.requests]
    assert keys[0::2] == keys[1::2]
    assert len(set(keys)) == 4
    await front.ask(f"{B}/campaign/cd-1")
    assert front.exchange.requests[-1].key not in keys, "the first version shows another projection"


@pytest.mark.parametrize(
    ("fields", "key", "status"),
    [
        pytest.param(["auth: a.b.c"], None, 401, id="the-platforms-token-is-no-key"),
        pytest.param(["auth: cgk_reporting"], None, 401, id="a-key-in-its-place"),
        pytest.param([], "cgk_wrong", 401, id="wrong-key"),
        pytest.param(["auth: a.b.c", "iid: st-2", "accountId: acc-2"], "cgk_reporting", 200, id="tenant-fields"),
    ],
)
async def test_who_may_is_told_by_the_client_key_alone(front, fields, key, status):
    answer = await front.ask(f"{A}/campaign/cd-1", *fields, key=key)
    assert answer.status == status
    if status == 401:
        assert error_of(answer)["code"] == 4002
        assert front.exchange.requests == []
    else:
        assert front.exchange.requests[0].stream is front.streams["support"]


@pytest.mark.parametrize("stream", ["st-2", "st-3", "support", "acc-1", "%2e%2e", "ST-1"])
async def test_the_path_must_name_a_stream_of_the_clients_and_nobody_learns_of_others(front, stream):
    answer = await front.ask(f"/campaign/api/v2/public/{stream}/campaign/cd-1")
    assert (answer.status, error_of(answer)["code"]) == (403, 4002)
    assert error_of(answer)["msg"] == "Invalid SDK credentials: this client has no right to that stream"
    assert front.exchange.requests == []


async def test_another_client_may_use_it(front):
    assert (await front.ask("/campaign/api/v2/public/st-2/campaign/cd-1", key=OTHER_KEY)).status == 200
    assert front.exchange.requests[0].stream.alias == "sales"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", f"{A}/nothing", 404),
        ("PATCH", f"{A}/campaign/cd-1", 405),
        ("GET", f"{A}/campaign/..", 400),
        ("POST", f"{A}/campaign/cd-1", 400),
        ("GET", f"{A}/campaign/getAllCampaignDetails", 400),
        ("PUT", f"{A}/campaign/cd-1?campaignType=voice", 400),
    ],
)
async def test_what_is_refused_is_told_in_the_platforms_shape(front, method, target, status):
    answer = await front.ask(target, method=method, key=OTHER_KEY)
    assert (answer.status, error_of(answer)["code"]) == (status, status)
    assert (answer["Allow"] is not None) is (status == 405)
    assert front.exchange.requests == front.forwarder.requests == []


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"])
@pytest.mark.parametrize("target", [f"{A}/campaign/cd-1", "/v1/campaigns/cd-1"])
async def test_a_method_override_is_refused_and_never_a_read(front, name, target):
    answer = await front.ask(target, f"{name}: delete", key=OTHER_KEY)
    assert answer.status == 400
    assert front.exchange.requests == front.forwarder.requests == []
    if target.startswith("/campaign"):
        assert error_of(answer)["code"] == 400


async def test_a_defect_has_the_platforms_shape_too(front):
    front.exchange.reply = LookupError("what must not be told")
    answer = await front.ask(f"{A}/campaign/cd-1")
    assert (answer.status, error_of(answer)["code"]) == (500, 500)
    assert b"what must not" not in answer.body


async def test_spent_is_429_there_and_503_here(front):
    front.exchange.reply = Reply(Outcome(), failure=Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=3.2))
    answer = await front.ask(f"{A}/campaign/cd-1")
    assert (answer.status, answer["Retry-After"]) == (429, "4")
    assert str(error_of(answer)["msg"]).startswith("You've exceeded the per-minute rate limit.")
    assert (await front.ask()).status == 503


async def test_a_content_type_is_not_asked_for(front):
    """A curl user sends JSON under a form's type."""
    answer = await write(
        front, f"{A}/campaign?campaignType=voice", "Content-Type: application/x-www-form-urlencoded", body=b'{"a": 1}'
    )
    assert answer.status == 200
    assert front.forwarder.requests[0].body == b'{"a": 1}'
