import json
import re

import pytest

from service.policy.entry import make_etag
from service.policy.plan import Fwd
from service.policy.settle import Failure
from service.policy.wishes import Wishes
from service.problems import Problem
from service.proxy.ports import Detail, Outcome, Reply

BODY = b'{"data": {"_id": "c-1"}}'
MISS = Outcome(Fwd.URI_MISS, 200, stored=True, ttl=30.0)
OTHER_KEY = "cgk_operations"


def problem_of(answer) -> str:
    assert answer["Content-Type"] == "application/problem+json"
    document = json.loads(answer.body)
    assert document["status"] == answer.status
    assert document["request_id"] == answer["X-Request-ID"]
    return str(document["type"]).removeprefix("/problems/")


def lines(caplog) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.name == "service.requests"]


# From a request to an ask.


async def test_a_read_becomes_an_ask_and_its_reply_an_answer(front):
    answer = await front.ask()
    assert (answer.status, answer.body) == (200, BODY)
    (asked,) = front.exchange.asks
    assert (asked.stream.alias, asked.operation.name, asked.id, asked.client) == ("support", "get", "c-1", "reporting")
    assert asked.wishes == Wishes()


async def test_a_stream_in_the_path_is_the_one_asked(front):
    await front.ask("/v1/streams/sales/campaigns/c-1", key=OTHER_KEY)
    assert [asked.stream.alias for asked in front.exchange.asks] == ["sales"]


async def test_an_encoded_but_plain_id_is_the_plain_one(front):
    await front.ask("/v1/campaigns/%63d-1")
    assert [asked.id for asked in front.exchange.asks] == ["cd-1"]


@pytest.mark.parametrize(
    ("fields", "wishes"),
    [
        (["Cache-Control: no-cache"], Wishes(no_cache=True)),
        (["Cache-Control: max-age=5", "Cache-Control: min-fresh=2"], Wishes(max_age=5, min_fresh=2)),
        (["cache-control: only-if-cached, max-stale"], Wishes(only_if_cached=True, max_stale=float("inf"))),
        (["Pragma: no-cache"], Wishes(no_cache=True)),
        (["Pragma: no-cache", "Cache-Control: max-age=5"], Wishes(max_age=5)),
    ],
)
async def test_the_callers_wishes_come_along(front, fields, wishes):
    await front.ask("/v1/campaigns/c-1", *fields)
    assert front.exchange.asks[0].wishes == wishes


@pytest.mark.parametrize(
    "field", ["auth: forged", "iid: other-app", "accountId: other-account", "X-Forwarded-For: 1.2.3.4"]
)
async def test_tenant_fields_of_the_caller_change_nothing(front, field):
    assert (await front.ask("/v1/campaigns/c-1", field)).status == 200
    assert front.exchange.asks[0].stream is front.streams["support"]


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
    assert len(front.exchange.asks) == 1


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
    assert front.exchange.asks == []


async def test_a_key_in_the_query_is_no_key(front):
    assert (await front.ask("/v1/campaigns/c-1?key=cgk_reporting", key=None)).status == 401


async def test_another_clients_stream_is_forbidden_and_its_campaigns_unasked(front):
    answer = await front.ask("/v1/streams/sales/campaigns/c-1")
    assert (answer.status, problem_of(answer)) == (403, "forbidden")
    assert front.exchange.asks == []
    for name in ("st-2", "acc-2", "app-2", "identity-2"):
        assert name.encode() not in answer.head + answer.body


async def test_strangers_learn_nothing_of_routes_and_streams(front):
    targets = ["/v1/campaigns/c-1", "/nothing", "/v1/streams/none/campaigns/c-1", "/v1/campaigns/..%2f"]
    assert [(await front.ask(target, key=None)).status for target in targets] == [401] * 4


async def test_an_unknown_stream_is_a_404(front):
    answer = await front.ask("/v1/streams/none/campaigns/c-1")
    assert (answer.status, problem_of(answer)) == (404, "unknown-stream")


async def test_without_a_default_a_path_must_name_its_stream(serve):
    async with serve(default_stream=None) as front:
        answer = await front.ask()
        assert (answer.status, problem_of(answer)) == (404, "unknown-stream")
        assert (await front.ask("/v1/streams/support/campaigns/c-1")).status == 200


async def test_anonymous_callers_get_in_where_that_is_set(serve):
    async with serve(anonymous=True) as front:
        assert (await front.ask(key=None)).status == 200
        assert front.exchange.asks[0].client == "anonymous"


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
    assert front.exchange.asks == []
    assert segment == b"%" or segment in {b".", b".."} or segment not in answer.body


@pytest.mark.parametrize(
    ("target", "status", "problem"),
    [
        ("/v1/campaigns/", 404, "not-found"),
        ("/v1/campaigns/c-1/", 404, "not-found"),
        ("//v1/campaigns/c-1", 404, "not-found"),
        ("/", 404, "not-found"),
        ("/v1/campaigns/c-1?a=b", 400, "invalid-request"),
        ("/v1/streams/..%2f/campaigns/c-1", 404, "unknown-stream"),
        ("/v1/streams/%00/campaigns/c-1", 404, "unknown-stream"),
    ],
)
async def test_a_target_that_is_none_is_a_problem(front, target, status, problem):
    answer = await front.ask(target)
    assert (answer.status, problem_of(answer)) == (status, problem)
    assert front.exchange.asks == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
async def test_a_method_that_is_not_taken_is_told_the_others(front, method):
    answer = await front.ask(method=method)
    assert (answer.status, problem_of(answer), answer["Allow"]) == (405, "method-not-allowed", "GET, HEAD")
    assert front.exchange.asks == []


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


# What is told to metrics and log.


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
        ("request", "none", "none", "401", "none"): 1,
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
