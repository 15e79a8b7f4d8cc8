import pytest

from service.contract.operations import GET
from service.problems import Problem
from service.web.routes import NoRouteError, Target, find


def refusal(method: str, target: str) -> NoRouteError:
    with pytest.raises(NoRouteError) as refused:
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
    assert find(method, target) == Target(GET, "read", stream, campaign)


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
    assert error.failure.detail == "a campaign id is 1 to 128 of A-Z a-z 0-9 _ -"
    assert (error.operation, error.allow) == ("get", None)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "",
        "/v1",
        "/v1/",
        "/v1/campaigns",
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
    assert (error.failure.problem, error.operation) == (Problem.NOT_FOUND, "none")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", ""])
def test_another_method_is_told_which_ones_there_are(method):
    error = refusal(method, "/v1/campaigns/cd-1")
    assert (error.failure.problem, error.allow) == (Problem.METHOD_NOT_ALLOWED, "GET, HEAD")
    assert error.operation == "none", "a closed set of labels, whatever methods are sent"


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
        *("a=b", "fresh", "?", "=", "id=cd-2", "fields", "fields=", "fields=,", "fields=a,,b", "fields=a&fields=b"),
        *("fields=a&x=1", "fields=a.b", "fields=%00", "fields=%ff", "Fields=a", "fields=" + "a" * 65),
        "fields=" + ",".join(f"f{number}" for number in range(51)),
    ],
)
def test_a_query_is_refused_rather_than_ignored(query):
    assert refusal("GET", f"/v1/campaigns/cd-1?{query}").failure.problem is Problem.INVALID_REQUEST


def test_a_stream_is_looked_up_by_its_decoded_name_and_judged_elsewhere():
    assert find("GET", "/v1/streams/%2e%2e/campaigns/a").stream == ".."
