import json
from dataclasses import replace

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.entry import make_etag
from campaign_gateway.policy.projection import cut, is_in_rows, row_entry
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, ListFlaw, Poll
from tests.support.builders import NOW, absence, entry

KNOWN = IndexedCampaign(
    Channel.VOICE,
    "m",
    "2026-02-02T02:00:00.000Z",
    NOW - 50,
    has_changed=False,
    status="Ready",
    fields={"name": "Tide", "status": "Ready", "priority": "3"},
)
STATE = IndexState(polls={Channel.VOICE: Poll(NOW - 5, lasts=20.0)})


def test_a_cut_answer_keeps_its_envelope_and_has_a_tag_of_its_own():
    body = b'{"status":"success","data":{"_id":"cd-1","name":"Tide"}}'
    whole = replace(entry(0.0), body=body)
    small = cut(whole, frozenset({"_id", "nothing"}))
    document = json.loads(whole.body)
    assert json.loads(small.body) == {**document, "data": {"_id": document["data"]["_id"]}}
    assert small.etag == make_etag(small.body) != whole.etag
    assert small.validated_at == whole.validated_at
    assert cut(whole, frozenset({"_id", "nothing"})) == small, "the same everywhere and each time"


def test_an_absence_has_nothing_to_cut():
    gone = absence(0.0)
    assert cut(gone, frozenset({"name"})) is gone


@pytest.mark.parametrize(
    ("fields", "carried"),
    [({"name", "status", "priority", "createdAt", "updatedAt"}, True), ({"name", "description"}, False)],
)
def test_which_fields_rows_carry(fields: set[str], carried: bool):
    assert is_in_rows(frozenset(fields)) is carried


def test_a_row_answers_with_what_it_carries_for_as_long_as_its_poll_is_good():
    found = row_entry(KNOWN, STATE, frozenset({"name", "updatedAt"}), NOW)
    assert found is not None
    made, left = found
    assert json.loads(made.body) == {"status": "success", "data": {"name": "Tide"}}
    assert (made.validated_at, made.revision, made.campaign_status, left) == (NOW - 5, KNOWN.updated_at, "Ready", 15.0)


@pytest.mark.parametrize(
    ("indexed", "state"),
    [
        pytest.param(None, STATE, id="in-no-list"),
        pytest.param(KNOWN, IndexState(), id="no-poll-yet"),
        pytest.param(KNOWN, IndexState({Channel.VOICE: Poll(NOW - 5, lasts=5.0)}), id="its-poll-has-run-out"),
        pytest.param(KNOWN, IndexState(STATE.polls, flaws={Channel.VOICE: ListFlaw.UNSORTED}), id="not-trusted"),
        pytest.param(
            IndexedCampaign(Channel.VOICE, "", None, NOW - 9, has_changed=True, is_listed=False),
            STATE,
            id="no-longer-listed",
        ),
    ],
)
def test_no_poll_vouches_for_it(indexed: IndexedCampaign | None, state: IndexState):
    assert row_entry(indexed, state, frozenset({"name"}), NOW) is None
