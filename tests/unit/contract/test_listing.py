import json
from typing import Any

import pytest
from hypothesis import given

from campaign_gateway.contract.document import parse
from campaign_gateway.contract.listing import ROW_FIELDS, Channel, ListPage, Row, list_body, read_page
from tests.support.builders import NOW, as_body, envelope, json_documents, samples, stamp

REVISION = stamp(NOW)


def listed(*rows: Any, **members: Any) -> ListPage:
    page = read_page(as_body(envelope({"results": list(rows), **members})))
    assert page is not None
    return page


def row_of(**members: Any) -> Row:
    (row,) = listed({"_id": "cd-1", "updatedAt": REVISION, **members}).rows
    return row


@pytest.mark.parametrize("channel", list(Channel))
def test_the_body_asks_for_one_channel_newest_change_first(channel: Channel):
    asked = json.loads(list_body(channel, 97, 100))
    assert asked == {"type": channel.value, "limit": 100, "skip": 97, "sortBy": {"updatedAt": "desc"}}


def test_a_documented_voice_list():
    page = read_page(samples()["campaign-voice-list.json"].response.body)
    assert page is not None
    assert page.rows
    assert page.total == len(page.rows)
    assert not page.has_more
    for row in page.rows:
        assert row.updated_at is not None
        assert row.revision.startswith(f"{row.updated_at}|")
        assert set(row.fields) <= set(ROW_FIELDS)


def test_the_documented_pages_of_an_sms_list():
    first = read_page(samples()["campaign-sms-list.json"].response.body)
    second = read_page(samples()["campaign-sms-list-page-2.json"].response.body)
    assert first is not None
    assert second is not None
    assert (first.has_more, second.has_more) == (True, False)
    assert first.total == second.total == len(first.rows) + len(second.rows)
    assert not {row.id for row in first.rows} & {row.id for row in second.rows}


def test_a_documented_empty_list():
    assert read_page(samples()["campaign-list-empty.json"].response.body) == ListPage((), 0, has_more=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"data": {"results": [', id="cut"),
        pytest.param(b"[]", id="array"),
        pytest.param(as_body({"status": "success"}), id="no-data"),
        pytest.param(as_body(envelope(None)), id="data-null"),
        pytest.param(as_body(envelope([])), id="data-a-bare-array"),
        pytest.param(as_body(envelope({"totalResults": 0})), id="no-results"),
        pytest.param(as_body(envelope({"results": None})), id="results-null"),
        pytest.param(as_body(envelope({"results": {}})), id="results-an-object"),
    ],
)
def test_what_holds_no_list_is_no_page(body: bytes):
    assert read_page(body) is None


@pytest.mark.parametrize(
    ("members", "id_"),
    [
        pytest.param({"_id": "cd-1"}, "cd-1", id="voice"),
        pytest.param({"id": "cd-1"}, "cd-1", id="sms"),
        pytest.param({"campId": "cd-1"}, "cd-1", id="camp-id"),
        pytest.param({"_id": "cd-1", "id": "other", "campId": "another"}, "cd-1", id="the-first-of-them"),
        pytest.param({"_id": 5, "id": "cd-1"}, "cd-1", id="one-that-is-no-text-is-passed-over"),
    ],
)
def test_the_ids_of_rows(members: dict[str, str], id_: str):
    assert [row.id for row in listed({"updatedAt": REVISION, **members}).rows] == [id_]


@pytest.mark.parametrize(
    "row", [{}, {"_id": ""}, {"_id": None}, {"_id": 5}, {"campaignId": "cd-2"}, None, "cd-2", ["cd-2"]]
)
def test_what_has_no_id_is_no_row(row: Any):
    assert [found.id for found in listed({"_id": "cd-1"}, row).rows] == ["cd-1"]


@pytest.mark.parametrize(
    ("total", "read"),
    [(0, 0), (7, 7), (None, None), (-1, None), ("7", None), (7.5, None), (True, None)],
    ids=["none", "some", "null", "negative", "text", "fraction", "true"],
)
def test_total(total: Any, read: int | None):
    assert listed(totalResults=total).total == read


def test_no_total_and_no_word_of_more():
    assert listed() == ListPage((), None, has_more=False)


@pytest.mark.parametrize(
    ("said", "has_more"), [(True, True), (False, False), (None, False), ("true", False), (1, False)]
)
def test_has_more(said: Any, has_more: bool):
    assert listed(hasMore=said).has_more is has_more


def test_the_revision_of_a_row_is_made_of_three_signs():
    assert row_of(status="Ready", campaignInstanceUpdatedAt="x").revision == f"{REVISION}|x|Ready"
    assert row_of().revision == f"{REVISION}||"


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"updatedAt": stamp(NOW + 1)}, id="updated-at"),
        pytest.param({"updatedAt": None}, id="no-updated-at"),
        pytest.param({"campaignInstanceUpdatedAt": "y"}, id="instance"),
        pytest.param({"campaignInstanceUpdatedAt": None}, id="no-instance"),
        pytest.param({"status": "Active"}, id="status"),
        pytest.param({"status": None}, id="no-status"),
    ],
)
def test_each_sign_moves_the_revision(members: dict[str, Any]):
    before = {"status": "Ready", "campaignInstanceUpdatedAt": "x"}
    assert row_of(**before).revision != row_of(**{**before, **members}).revision


@pytest.mark.parametrize("members", [{"name": "other"}, {"priority": "9"}, {"schedule": {"at": REVISION}}, {"x": 1}])
def test_nothing_else_moves_the_revision(members: dict[str, Any]):
    assert row_of(**members).revision == row_of().revision


def test_a_row_without_a_revision_is_still_a_row():
    row = row_of(updatedAt=None)
    assert (row.id, row.updated_at) == ("cd-1", None)


def test_the_fields_that_by_id_answers_carry_too():
    row = row_of(name="X", status="Ready", priority="5", createdAt=REVISION, connection="queue", message={})
    assert row.fields == {"name": "X", "status": "Ready", "priority": "5", "createdAt": REVISION, "updatedAt": REVISION}


@pytest.mark.parametrize(("said", "status"), [("Ready", "Ready"), (None, None), (5, None), ({"a": 1}, None)])
def test_status(said: Any, status: str | None):
    assert row_of(status=said).status == status


@pytest.mark.parametrize(
    ("schedule", "edges"),
    [
        pytest.param(None, (), id="none"),
        pytest.param("tomorrow", (), id="text"),
        pytest.param({}, (), id="empty"),
        pytest.param({"isSchedulingEnabled": True, "days": 5, "note": "soon"}, (), id="no-instants"),
        pytest.param({"end": stamp(NOW + 60), "start": stamp(NOW)}, (NOW, NOW + 60), id="in-order-of-time"),
        pytest.param({"start": "2026-02-02T02:40:00"}, (), id="no-zone"),
    ],
)
def test_edges(schedule: Any, edges: tuple[float, ...]):
    assert row_of(schedule=schedule).edges == edges


def test_lone_surrogates_reach_nobody():
    # They could be written neither to Redis nor to a log.
    (row,) = listed({"_id": "cd-\ud800", "updatedAt": "\ud800", "status": "\ud800"}).rows
    for text in (row.id, row.revision, row.updated_at, row.status):
        assert text is not None
        text.encode()


@given(json_documents(), json_documents())
def test_whatever_comes_is_a_page_or_none(found: Any, other: Any):
    for document in (
        found,
        envelope(found),
        envelope({"results": found}),
        envelope({"results": [found, {"id": other}]}),
    ):
        body = as_body(document)
        page = read_page(body)
        if page is not None:
            assert isinstance(parse(body)["data"]["results"], list)
            assert all(row.id and row.id.encode() and row.revision.encode() is not None for row in page.rows)
