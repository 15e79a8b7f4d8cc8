import json
import tracemalloc
from dataclasses import replace

import pytest

from campaign_gateway.contract.document import parse
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import GET, operation
from campaign_gateway.policy.decide import Choice, Detail
from campaign_gateway.policy.fields import cut, decide_by_row, is_in_rows
from campaign_gateway.policy.stored import make_etag
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, ListFlaw, Poll
from campaign_gateway.policy.visibility import Visibility
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
    small = cut(whole, frozenset({"_id", "nothing"}), GET)
    document = json.loads(whole.body)
    assert json.loads(small.body) == {**document, "data": {"_id": document["data"]["_id"]}}
    assert small.etag == make_etag(small.body) != whole.etag
    assert small.validated_at == whole.validated_at
    assert cut(whole, frozenset({"_id", "nothing"}), GET) == small, "the same everywhere and each time"


@pytest.mark.drill("odd text and numbers")
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (
            b'{"data":{"a":0.1000000000000000055511151231257827,"b":1}}',
            b'{"data":{"a":0.1000000000000000055511151231257827}}',
        ),
        (b'\xef\xbb\xbf { "data" : { "b" : 1 , "a" : "\\ud83d\\ude00" } } ', b'{"data":{"a":"\\ud83d\\ude00"}}'),
        (
            b'{"data":{"\\u0061":[1, {"a":2}],"x":"\\ud800"},"more":"\\udfff"}',
            b'{"data":{"\\u0061":[1, {"a":2}]},"more":"\\udfff"}',
        ),
        (b'{"data":[{"a":1E+2,"b":2},{"b":3}, 4]}', b'{"data":[{"a":1E+2},{},4]}'),
        (b'{"data":{"total":2,"results":[{"a":-0.0},{"c":1}]}}', b'{"data":{"total":2,"results":[{"a":-0.0},{}]}}'),
        (b'{"data":"text","a":1}', b'{"data":"text","a":1}'),
        (b'{"data":{}}', b'{"data":{}}'),
        (b'{"status":"success"}', b'{"status":"success","data":null}'),
    ],
)
def test_what_is_kept_is_spelled_as_it_was(sent: bytes, kept: bytes):
    assert cut(replace(entry(0.0), body=sent), frozenset({"a"}), GET).body == kept


@pytest.mark.drill(
    "a few fields from a row, then from an entry",
    planted="other orders, escapes, digits, half a surrogate pair",
    seen="one body, one tag",
)
@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ('"Flut und Ebbe \\u00fc"', '"Flut und Ebbe ü"'),
        ('"\\ud83d\\ude00\\/"', '"\U0001f600/"'),
        ('"\\ud800"', '"\\ud800"'),
        ("3", "3"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("null", "null"),
    ],
)
def test_a_row_and_a_stored_answer_make_the_same_body_and_tag(spelled: str, value: str):
    wanted = frozenset({"name", "status", "updatedAt"})
    sent = b'{ "message":"Tide", "data":{"updatedAt":"u","name": %b,"_id":"c","status":"Ready"},"status":"success"}'
    by_id = cut(replace(entry(0.0), body=sent % spelled.encode()), wanted, GET)
    row = parse(b'{"status":"Ready", "name":%b,"priority":"3","updatedAt":"\\u0075"}' % spelled.encode())
    decision = decide_by_row(replace(KNOWN, fields=row), STATE, wanted, NOW)
    assert decision is not None
    assert decision.stored is not None
    assert by_id.body == b'{"status":"success","data":{"name":%b,"status":"Ready","updatedAt":"u"}}' % value.encode()
    for made in (decision.stored, by_id):
        assert (made.body, made.etag, made.content_type) == (by_id.body, by_id.etag, "application/json")


def test_an_answer_that_no_row_can_stand_in_for_keeps_its_envelope():
    body = b'{"message":"m","data":{"id":"c","status":"Ready"}}'
    made = cut(replace(entry(0.0), body=body), frozenset({"status"}), operation("status"))
    assert made.body == b'{"message":"m","data":{"status":"Ready"}}'


def test_no_body_lives_on_in_a_cut():
    """The store may have let go of it for room: nobody else keeps it."""
    tracemalloc.start()
    for number in range(50):
        body = json.dumps({"status": "success", "data": {"_id": f"cd-{number}", "text": "x" * 100_000}}).encode()
        cut(replace(entry(0.0), body=body), frozenset({"_id"}), GET)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000


def test_an_absence_has_nothing_to_cut():
    gone = absence(0.0)
    assert cut(gone, frozenset({"name"}), GET) is gone


@pytest.mark.parametrize(
    ("fields", "carried"),
    [({"name", "status", "priority", "createdAt", "updatedAt"}, True), ({"name", "description"}, False)],
)
def test_which_fields_rows_carry(fields: set[str], carried: bool):
    assert is_in_rows(frozenset(fields)) is carried


def test_a_row_answers_with_what_it_carries_for_as_long_as_its_poll_is_good():
    decision = decide_by_row(KNOWN, STATE, frozenset({"name", "priority"}), NOW)
    assert decision is not None
    made = decision.stored
    assert made is not None
    assert json.loads(made.body) == {"status": "success", "data": {"name": "Tide", "priority": "3"}}
    assert (made.validated_at, made.revision, made.campaign_status) == (NOW - 5, KNOWN.updated_at, "Ready")
    assert (decision.choice, decision.detail, decision.age) == (Choice.FRESH, Detail.ROW, 5.0)
    assert (decision.ttl.seconds, decision.visibility) == (15.0, Visibility(20.0, NOW + 15.0))


@pytest.mark.parametrize(
    ("indexed", "state"),
    [
        pytest.param(None, STATE, id="in-no-list"),
        pytest.param(replace(KNOWN, fields={"status": "Ready"}), STATE, id="without-what-is-asked-for"),
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
    assert decide_by_row(indexed, state, frozenset({"name"}), NOW) is None
