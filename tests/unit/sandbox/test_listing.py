import pytest

from campaign_gateway.sandbox.answers import RefusedError
from campaign_gateway.sandbox.campaigns import Campaign, Kind
from campaign_gateway.sandbox.listing import Paging, matching, wanted


def campaign(name, created, priority="3", status="Ready", kind=Kind.VOICE):
    stamp = f"2026-01-{created:02}T00:00:00.000Z"
    updated = f"2026-02-{30 - created:02}T00:00:00.000Z"
    fields = {"name": name, "createdAt": stamp, "updatedAt": updated, "priority": priority, "status": status}
    return Campaign(name, kind, fields | ({"dialingMode": "Preview"} if name == "b" else {"dialingMode": "Agentless"}))


CAMPAIGNS = [
    campaign("b", 1, priority="5"),
    campaign("a", 2, status="Active"),
    campaign("c", 3),
    campaign("s", 4, kind=Kind.SMS),
]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "cab"),
        ({"sortBy": {"createdAt": "asc"}}, "bac"),
        ({"sortBy": {"name": "asc"}}, "abc"),
        ({"sortBy": {"name": "desc"}}, "cba"),
        ({"sortBy": {"updatedAt": "asc"}}, "cab"),
        ({"sortBy": {"updatedAt": "desc"}}, "bac"),
        ({"sortBy": {}}, "cab"),
        ({"type": "sms"}, "s"),
        ({"filters": {"priority": [5]}}, "b"),
        ({"filters": {"priority": [3, 5]}}, "cab"),
        ({"filters": {"status": ["Active", "Paused"]}}, "a"),
        ({"filters": {"status": []}}, "cab"),
        ({"filters": {"dialingMode": ["Preview"]}}, "b"),
        ({"filters": {"dialingMode": ["Agentless"], "status": ["Ready"]}}, "c"),
        ({"startDate": "2026-01-02", "endDate": ""}, "ca"),
        ({"startDate": "2026-01-02", "endDate": "2026-01-02T00:00:00.000Z"}, "a"),
    ],
)
def test_sorts_and_filters(body, names):
    found = matching(CAMPAIGNS, wanted({"type": "voice"} | body))
    assert "".join(one.name for one in found) == names


def test_unsorted_keeps_the_order_given():
    found = matching(CAMPAIGNS, wanted({"type": "voice", "sortBy": {"name": "asc"}}), is_sorted=False)
    assert [one.name for one in found] == ["b", "a", "c"]


def test_equal_keys_keep_their_order():
    twins = [campaign("x", 1, priority="1"), campaign("x", 1, priority="2")]
    for order in ("asc", "desc"):
        assert matching(twins, wanted({"type": "voice", "sortBy": {"name": order}})) == twins


@pytest.mark.parametrize(
    ("body", "skip", "limit"),
    [
        ({}, 0, 50),
        ({"limit": "", "skip": "", "page": ""}, 0, 50),
        ({"limit": 2, "skip": 4, "page": 1}, 4, 2),
        ({"limit": 2, "skip": 0, "page": 3}, 4, 2),
        ({"limit": 2, "page": 1}, 0, 2),
        ({"limit": 51}, 0, 50),
        ({"limit": 1000, "page": 2}, 50, 50),
        ({"limit": 0, "page": 0}, 0, 50),
    ],
)
def test_paging(body, skip, limit):
    assert wanted({"type": "sms"} | body).paging == Paging(skip, limit)


@pytest.mark.parametrize(
    ("body", "page_rows", "limit"),
    [({"limit": 1000}, 100, 100), ({"limit": 70}, 100, 70), ({}, 100, 50), ({}, 7, 7), ({"limit": 9}, 7, 7)],
)
def test_a_page_has_as_many_rows_as_the_platform_grants(body, page_rows, limit):
    assert wanted({"type": "sms"} | body, page_rows).paging == Paging(0, limit)


@pytest.mark.parametrize(
    ("skip", "limit", "page", "more", "pages"),
    [(0, 2, [0, 1], True, 2), (2, 2, [2], False, 2), (1, 2, [1, 2], False, 2), (9, 3, [], False, 1)],
)
def test_envelope(skip, limit, page, more, pages):
    assert Paging(skip, limit).envelope([0, 1, 2]) == {
        "results": page,
        "skip": skip,
        "limit": limit,
        "hasMore": more,
        "totalPages": pages,
        "totalResults": 3,
    }


@pytest.mark.parametrize(
    "body",
    [
        {"type": None},
        {"type": "fax"},
        {"type": []},
        {"limit": "2"},
        {"limit": -1},
        {"skip": True},
        {"page": 1.5},
        {"sortBy": []},
        {"sortBy": {"status": "asc"}},
        {"sortBy": {"name": "up"}},
        {"sortBy": {"name": []}},
        {"filters": []},
        {"filters": {"name": ["x"]}},
        {"filters": {"status": "Ready"}},
        {"startDate": "soon"},
        {"endDate": 5},
    ],
)
def test_a_bad_body_is_refused(body):
    with pytest.raises(RefusedError) as refusal:
        wanted({"type": "voice"} | body)
    assert (refusal.value.status, refusal.value.code) == (412, 412)
