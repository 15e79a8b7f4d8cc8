import json

import pytest

from campaign_gateway.contract.document import DocumentError, parse
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.requests import channel_of, list_request

PLAIN = b'{"type":"voice","limit":50,"skip":0}'


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"type": "voice"}, id="the-least"),
        pytest.param({"limit": 50, "skip": 0, "type": "voice"}, id="another-order"),
        pytest.param({"type": "voice", "limit": "", "skip": "", "page": ""}, id="section-6-empty-text"),
        pytest.param({"type": "voice", "limit": "50", "skip": "0"}, id="section-6-numbers-as-text"),
        pytest.param({"type": "voice", "limit": 50.0, "skip": 0.0}, id="whole-with-a-point"),
        pytest.param({"type": "voice", "page": None, "sortBy": {}, "filters": {}}, id="what-says-nothing"),
        pytest.param({"type": "voice", "filters": {"status": [], "priority": ""}}, id="filters-that-say-nothing"),
        pytest.param({"type": "voice", "startDate": ""}, id="no-date"),
    ],
)
def test_equal_questions_are_one_question(asked):
    assert list_request(asked) == PLAIN


def test_filters_are_sets():
    one = {"type": "sms", "filters": {"status": ["Ready", "Active", "Ready"], "priority": [3, 1]}}
    other = {"type": "sms", "filters": {"priority": [1, 3, 3], "status": ["Active", "Ready"]}}
    assert list_request(one) == list_request(other)
    assert json.loads(list_request(one))["filters"] == {"priority": [1, 3], "status": ["Active", "Ready"]}


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "sms"},
        {"type": "voice", "limit": 2},
        {"type": "voice", "skip": 50},
        {"type": "voice", "page": 1},
        {"type": "voice", "page": 2},
        {"type": "voice", "skip": 0, "page": 1},
        {"type": "voice", "startDate": "2026-01-01"},
        {"type": "voice", "endDate": "2026-01-01"},
        {"type": "voice", "sortBy": {"name": "asc"}},
        {"type": "voice", "sortBy": {"name": "desc"}},
        {"type": "voice", "sortBy": {"name": "asc", "createdAt": "asc"}},
        {"type": "voice", "sortBy": {"createdAt": "asc", "name": "asc"}},
        {"type": "voice", "filters": {"status": ["Ready"]}},
        {"type": "voice", "filters": {"status": ["ready"]}},
        {"type": "voice", "filters": {"priority": [1]}},
        {"type": "voice", "filters": {"dialingMode": ["Preview"]}},
        {"type": "voice", "somethingNew": "x"},
    ],
)
def test_other_questions_are_others(asked):
    assert list_request(asked) != PLAIN
    assert json.loads(list_request(asked)).items() >= {key: asked[key] for key in asked if key != "filters"}.items()


def test_the_order_of_sorting_and_unknown_members_are_kept():
    asked = {"zeta": 1, "sortBy": {"name": "asc", "createdAt": "desc"}, "type": "sms", "alpha": {"b": [2, 1]}}
    assert list_request(asked) == (
        b'{"type":"sms","limit":50,"skip":0,"sortBy":{"name":"asc","createdAt":"desc"},"alpha":{"b":[2,1]},"zeta":1}'
    )


def test_a_page_stands_for_the_beginning():
    # section-9: which of skip and page wins is unknown, so none is made up beside the other.
    assert list_request({"type": "sms", "page": "2"}) == b'{"type":"sms","limit":50,"page":2}'


@pytest.mark.parametrize("given", [None, "", "Voice", "email", 1, ["voice"], {"voice": 1}, True])
def test_a_list_is_of_one_kind(given):
    with pytest.raises(DocumentError):
        list_request({"type": given})


@pytest.mark.parametrize("body", [b"", b"[]", b'"voice"', b"{", b'{"type":"voice","type":"sms"}', b"null"])
def test_a_body_that_asks_nothing_is_refused(body):
    with pytest.raises(DocumentError):
        list_request(parse(body))


def test_text_that_utf_8_cannot_say_is_sent_as_json_can():
    body = list_request(parse(b'{"type": "sms", "x": "\\ud800"}'))
    body.decode()
    assert json.loads(body)["x"] == "\ud800"


@pytest.mark.parametrize(
    ("document", "channel"),
    [
        ({"campaignType": "voice"}, Channel.VOICE),
        ({"campaignType": "sms", "dialingMode": "Preview"}, Channel.SMS),
        ({"dialingMode": "Preview"}, Channel.VOICE),
        ({"format": "simple"}, Channel.SMS),
        ({"campaignType": "email", "format": "simple"}, Channel.SMS),
        ({"campaignType": ["voice"]}, None),
        ({}, None),
        ([], None),
        (None, None),
        ("voice", None),
    ],
)
def test_voice_or_sms_by_what_the_content_says(document, channel):
    assert channel_of(document) is channel
