import pytest

from campaign_gateway.contract.operations import LITERALS, OPERATIONS, Kind
from campaign_gateway.problems import Problem
from campaign_gateway.web.rejected import RejectedError
from campaign_gateway.web.routes import LONGEST_KEPT, ROUTES, Action, Target, find


def refusal(method: str, target: str) -> RejectedError:
    with pytest.raises(RejectedError) as refused:
        find(method, target)
    return refused.value


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "stream", "campaign"),
    [
        ("/v1/campaigns/cd-1", None, "cd-1"),
        ("/v1/streams/support/campaigns/cd-1", "support", "cd-1"),
        pytest.param("/v1/campaigns/" + "a" * 128, None, "a" * 128, id="the-longest-id"),
        pytest.param("/v1/campaigns/_-0Az", None, "_-0Az", id="every-kind-of-letter"),
        pytest.param("/v1/campaigns/campaigns", None, "campaigns", id="an-id-like-a-route"),
        pytest.param("/v1/campaigns/%63d-1", None, "cd-1", id="encoded-but-plain"),
        pytest.param("/v1/campaigns/%63%64%2D%31", None, "cd-1", id="all-of-it-encoded"),
        pytest.param("/v1/streams/s%75pport/campaigns/cd-1", "support", "cd-1", id="encoded-stream"),
        pytest.param("/v1/campaigns/cd-1?", None, "cd-1", id="empty-query"),
        pytest.param("/v1/campaigns/CD-1", None, "CD-1", id="ids-are-case-sensitive"),
    ],
)
def test_a_campaigns_path_asks_for_that_campaign(method, target, stream, campaign):
    assert find(method, target) == Target(Action.READ, "get", "read", stream, campaign)


@pytest.mark.parametrize(
    "segment",
    [
        "..%2f..%2fadmin",
        "..%2F..%2Fadmin",
        "..",
        ".",
        "%2e%2e",
        "a.b",
        "%00",
        "a%00",
        "a%0a",
        "a%0d%0aX-Evil:1",
        "a%20b",
        "a%25b",
        "%2563d-1",
        "a%zz",
        "%",
        "a+b",
        "a:b",
        "a;b",
        "a,b",
        "a@b",
        "a*",
        "a#b",
        "a'b",
        'a"b',
        "a\\b",
        "%ff",
        "%c3%a9",
        "é",
        "%e2%80%8b",
        "а",  # noqa: RUF001 - the Cyrillic letter
        "\udcff",
        pytest.param("%D9%A3", id="an-arabic-digit-is-no-digit"),
        pytest.param("a" * 129, id="one-letter-too-long"),
        pytest.param("a" * 10_000, id="10-kB"),
        pytest.param("%61" * 129, id="too-long-when-decoded"),
    ],
)
def test_an_id_of_anything_else_is_refused_and_not_repeated(segment):
    error = refusal("GET", f"/v1/campaigns/{segment}")
    assert error.failure.problem is Problem.INVALID_REQUEST
    assert error.failure.detail == "an id is 1 to 128 of A-Z a-z 0-9 _ -"
    assert (error.operation, error.allow) == ("get", None)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "",
        "/v1",
        "/v1/",
        "/v1/campaign",
        "/v1/campaigns/a/status/b",
        "/v1/campaigns/a/pause",
        "/v1/campaign-instances/a",
        "/v1/contact-lists/a/b",
        "/v1/contacts/a",
        "/v1/schedules/a",
        "/v1/purge/",
        "/v1/purge/a",
        "/v1/changed/a",
        "/v1/campaigns/a/changed",
        pytest.param("/v1/campaigns/", id="empty-id"),
        "/v1/campaigns//",
        "/v1/campaigns/a/",
        "/v1/campaigns/a/b",
        "//v1/campaigns/a",
        "/v1//campaigns/a",
        "/V1/campaigns/a",
        "/v1/Campaigns/a",
        "/v2/campaigns/a",
        "/v1/%63ampaigns/a",
        "/v1%2Fcampaigns/a",
        "/v1/campaigns%2Fa",
        "/v1/./campaigns/a",
        "/v1/x/../campaigns/a",
        "/v1/streams/campaigns/a",
        "/v1/streams//campaigns/a",
        "/v1/streams/a/b/campaigns/c",
        "/metrics",
        "/readyz",
        "http://host/v1/campaigns/a",
        "?/v1/campaigns/a",
        "/v1/campaigns/?id=a",
    ],
)
def test_a_path_that_is_none_of_ours_is_not_found(target):
    error = refusal("GET", target)
    assert (error.failure.problem, error.operation) == (Problem.NOT_FOUND, None)


@pytest.mark.parametrize(
    ("target", "is_near"),
    [
        ("/v1/campaigns/", True),
        ("/v1/campaigns/a/?fields=name", True),
        ("/v1/streams/support/purge/", True),
        ("/v1/campaigns//", False),
        ("/v1/", False),
        ("/v1/campaigns/a/pause", False),
    ],
)
def test_a_slash_too_many_is_told(target, is_near):
    hint = ", but there is without the slash at its end" if is_near else ""
    assert refusal("GET", target).failure.detail == f"there is nothing at this path{hint}"


# Path, then each method with action, operation and scope; HEAD goes with each GET that is answered from the cache.
TABLE = {
    "/campaigns/a": {"GET": ("read", "get", "read"), "PUT": ("send", "update", "write"), "DELETE": ("send", "delete", "write")},
    "/campaigns?type=sms": {"GET": ("read", "list", "read"), "POST": ("send", "create", "write")},
    "/campaigns/a/status": {"GET": ("read", "status", "read")},
    "/campaigns/a/outcomes": {"GET": ("send", "outcomes", "read")},
    "/campaigns/a/start": {"POST": ("send", "start", "write")},
    "/campaigns/a/stop": {"POST": ("send", "stop", "write")},
    "/schedules?campaignName=x": {"POST": ("send", "schedule-on", "write"), "DELETE": ("send", "schedule-off", "write")},
    "/campaign-instances/a/call-backs": {"POST": ("send", "call-back", "write")},
    "/contact-lists": {"GET": ("read", "contact-list-list", "read"), "POST": ("send", "contact-list-create", "write")},
    "/contact-lists/a": {
        "GET": ("read", "contact-list-get", "read"),
        "PUT": ("send", "contact-list-update", "write"),
        "DELETE": ("send", "contact-list-delete", "write"),
    },
    "/contact-lists/a/contacts": {"GET": ("send", "contacts", "read")},
    "/contacts": {"POST": ("send", "contacts-add", "write")},
    "/purge": {"POST": ("purge", "purge", "purge")},
    "/changes": {"GET": ("changes", "changes", "read"), "HEAD": ("changes", "changes", "read")},
    "/changed": {"POST": ("hint", "changed", "purge")},
}  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", ""]


@pytest.mark.parametrize("prefix", ["/v1", "/v1/streams/support"])
@pytest.mark.parametrize("path", TABLE)
def test_each_method_on_each_path_does_what_the_table_says_and_no_other_is_taken(prefix, path):
    taken = dict(TABLE[path])
    if taken.get("GET", ("",))[0] == "read":
        taken["HEAD"] = taken["GET"]
    for method in METHODS:
        if method in taken:
            target = find(method, prefix + path)
            assert (target.action, target.name, target.scope) == taken[method]
            assert target.stream == (None if prefix == "/v1" else "support")
            assert target.id == ("a" if "/a" in path else "")
            assert target.operation is None
        else:
            refused = refusal(method, prefix + path)
            assert (refused.failure.problem, refused.operation) == (Problem.METHOD_NOT_ALLOWED, None)
            assert refused.allow == ", ".join(sorted(taken))


def test_the_table_here_is_whole_and_every_operation_has_a_route():
    assert len(TABLE) == len(ROUTES)
    routed = {method.name for route in ROUTES for method in route.methods.values()}
    assert routed == {row.name for row in OPERATIONS} | {"purge", "changed", "changes"}


def test_what_a_write_is_asked_with_needs_the_scope_write_and_what_is_personal_is_never_stored():
    kinds = {row.name: row.kind for row in OPERATIONS}
    for route in ROUTES:
        for method in route.methods.values():
            kind = kinds.get(method.name)
            assert (method.scope == "write") is (kind is Kind.WRITE)
            assert (method.action is Action.READ) is (kind in {Kind.READ, Kind.READ_BY_POST})


@pytest.mark.parametrize("word", sorted(LITERALS))
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/campaigns/{}/start?type=sms"), ("PUT", "/campaigns/{}"), ("GET", "/campaigns/{}"), ("DELETE", "/contact-lists/{}")],
)  # fmt: skip
def test_a_word_of_the_platforms_paths_is_no_id(method, path, word):
    # contract-2: POST on /campaign/schedule is another operation than the start of a campaign "schedule".
    assert refusal(method, "/v1" + path.format(word)).failure.problem is Problem.INVALID_REQUEST


def test_an_unknown_method_is_not_told_to_the_metrics():
    error = refusal("BREW", "/v1/campaigns/cd-1")
    assert error.operation is None, "a closed set of labels, whatever methods are sent"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", None),
        ("fields=name", {"name"}),
        ("fields=name,status,name", {"name", "status"}),
        ("fields=name%2Cstatus", {"name", "status"}),
    ],
)
def test_fields_are_a_set_of_names(query, fields):
    assert find("GET", f"/v1/campaigns/cd-1?{query}").fields == fields


@pytest.mark.parametrize(
    "query",
    [
        *("a=b", "fresh", "?", "=", "id=cd-2", "fields", "fields=", "fields=,", "fields=a,,b", "type=sms&type=sms"),
        *("fields=a&x=1", "fields=a.b", "fields=%00", "fields=%ff", "Fields=a", "fields=" + "a" * 65),
        "fields=" + ",".join(f"f{number}" for number in range(51)),
    ],
)
def test_a_query_is_refused_rather_than_ignored(query):
    assert refusal("GET", f"/v1/campaigns/cd-1?{query}").failure.problem is Problem.INVALID_REQUEST


def test_a_stream_is_looked_up_by_its_decoded_name_and_judged_elsewhere():
    assert find("GET", "/v1/streams/%2e%2e/campaigns/a").stream == ".."


def body_of(query: str) -> bytes | None:
    return find("GET", f"/v1/campaigns?{query}").body


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("type=sms", b'{"type":"sms","limit":50,"skip":0}'),
        ("type=voice&limit=100&skip=7", b'{"type":"voice","limit":100,"skip":7}'),
        ("page=2&type=voice", b'{"type":"voice","limit":50,"page":2}'),
        (
            "type=voice&sort=-updatedAt,name",
            b'{"type":"voice","limit":50,"skip":0,"sortBy":{"updatedAt":"desc","name":"asc"}}',
        ),
        (
            "type=voice&status=Ready,Active&priority=3,1&dialingMode=Preview",
            b'{"type":"voice","limit":50,"skip":0,"filters":%s}'
            % b'{"dialingMode":["Preview"],"priority":[1,3],"status":["Active","Ready"]}',
        ),
        (
            "type=sms&startDate=2026-01-01&endDate=2026-01-31T00:00:00Z",
            b'{"type":"sms","limit":50,"skip":0,"startDate":"2026-01-01","endDate":"2026-01-31T00:00:00Z"}',
        ),
        ("type=sms&fields=name", b'{"type":"sms","limit":50,"skip":0}'),
    ],
)
def test_a_list_is_asked_for_by_the_platforms_body(query, body):
    assert body_of(query) == body


def test_fields_are_no_part_of_the_question():
    assert find("GET", "/v1/campaigns?type=sms&fields=name").fields == frozenset({"name"})


@pytest.mark.parametrize(
    "query",
    [
        *("", "limit=50", "type=email", "type=sms&type=sms", "type=sms&limit=0", "type=sms&limit=101"),
        *("type=sms&skip=-1", "type=sms&skip=1000001", "type=sms&page=0", "type=sms&sort=status"),
        *("type=sms&priority=x", "type=sms&x=1", "type=sms&startDate=soon", "type=sms&status=a%00b"),
        *("type=sms&startDate=2026-01-01\udcff00:00", "type=sms&ids=a", "ids=a&limit=5", "ids=", "ids=a,,b"),
        *("ids=a%2fb", "ids=" + ",".join(["a"] * 101)),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(query):
    error = refusal("GET", f"/v1/campaigns?{query}")
    assert error.failure.problem is Problem.INVALID_REQUEST
    assert error.operation == "list"


@pytest.mark.parametrize("query", ["", "?limit=50", "?fields=name"])
def test_a_list_without_its_type_is_told_what_it_needs(query):
    assert refusal("GET", f"/v1/campaigns{query}").failure.detail == "type is needed, voice or sms; or ids"


def test_a_batch_keeps_order_and_repeats():
    target = find("GET", "/v1/campaigns?ids=b,a,b&fields=name")
    assert (target.action, target.name, target.scope) == (Action.BATCH, "batch", "read")
    assert target.parameters["ids"] == ("b", "a", "b")
    assert target.fields == frozenset({"name"})
    assert len(find("GET", "/v1/campaigns?ids=" + ",".join(["a"] * 100)).parameters["ids"]) == 100


def test_a_schedule_names_its_campaign_as_it_is_called():
    target = find("POST", "/v1/schedules?campaignName=Harbor%20Lights+%7C%2F%26%C3%A9")
    assert target.parameters == {"campaignName": "Harbor Lights |/&\u00e9"}


@pytest.mark.parametrize("query", ["", "campaignName=", "campaignName=a%00", "name=x", "campaignName=" + "a" * 257])
def test_a_schedule_without_a_name_is_refused(query):
    assert refusal("POST", f"/v1/schedules?{query}").failure.problem is Problem.INVALID_REQUEST


def test_what_a_question_means_is_remembered_unless_it_is_long():
    short, long = (
        "/v1/campaigns?type=voice&limit=7",
        "/v1/campaigns?ids=" + ",".join(f"campaign-{number}" for number in range(99)),
    )
    assert find("GET", short) is find("GET", short)
    assert find("GET", short) is not find("GET", short + "&page=1")
    assert len(long) > LONGEST_KEPT
    assert find("GET", long) is not find("GET", long)
    for _ in range(2):
        with pytest.raises(RejectedError):
            find("GET", "/v1/campaigns?type=fax")
