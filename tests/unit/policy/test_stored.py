from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.answers import Answer, Verdict
from campaign_gateway.policy import stored as stored_module
from campaign_gateway.policy.clock_offset import ClockOffset
from campaign_gateway.policy.stored import Absence, Stored, make_etag, stored_from
from tests.support.builders import (
    JSON_TYPE,
    LIMIT_TEXT,
    NOW,
    absence,
    as_body,
    campaign,
    classified,
    entry,
    envelope,
    stamp,
)

BODY = as_body(envelope(campaign(status="Active")))
GONE = classified({"errors": [{"msg": "Campaign not found", "code": 400}]}, 400)


def stored(body: bytes = BODY, validated_at: float = NOW - 100) -> Stored:
    return stored_from(None, classified(body), validated_at)[0]


def test_a_first_read_keeps_the_platform_s_bytes():
    made, is_renewed = stored_from(None, classified(BODY), NOW)
    assert not is_renewed
    assert made.body == BODY
    assert made.content_type == JSON_TYPE
    assert made.etag == make_etag(BODY)
    assert (made.revision, made.campaign_status) == (stamp(NOW - 1000), "Active")
    assert made.updated_at == NOW - 1000
    assert made.validated_at == NOW
    assert made.absence is None


@pytest.mark.parametrize(
    "respelled",
    [
        pytest.param(BODY, id="same-bytes"),
        pytest.param(BODY + b"\n", id="contract-12.19-white-space"),
        pytest.param(
            as_body(dict(reversed(envelope(campaign(status="Active")).items()))), id="contract-12.19-key-order"
        ),
    ],
)
def test_unchanged_content_renews_the_validation_and_nothing_else(respelled: bytes):
    previous = stored()
    renewed, is_renewed = stored_from(previous, classified(respelled), NOW)
    assert is_renewed
    assert renewed.validated_at == NOW
    assert renewed.body is previous.body
    assert renewed == stored(validated_at=NOW)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"status": "Paused"}, id="a-member"),
        pytest.param({"status": "Active", "updatedAt": stamp(NOW)}, id="the-revision-alone"),
        pytest.param({"status": "Active", "updatedAt": stamp(NOW - 5000)}, id="contract-10-revision-moved-backwards"),
        pytest.param({"status": "Active", "priority": "5"}, id="one-member-more"),
    ],
)
def test_changed_content_is_a_new_entry(members: dict[str, Any]):
    previous = stored()
    body = as_body(envelope(campaign(**members)))
    changed, is_renewed = stored_from(previous, classified(body), NOW)
    assert not is_renewed
    assert changed.body == body
    assert changed.etag != previous.etag
    assert changed == stored(body, NOW)


def test_equal_revisions_with_unequal_content_are_a_change():
    # contract-12.9: the revision may stand still while the content moves.
    changed, is_renewed = stored_from(stored(), classified(envelope(campaign(status="Paused"))), NOW)
    assert not is_renewed
    assert changed.revision == stored().revision
    assert changed.campaign_status == "Paused"


BEHIND, AHEAD = ClockOffset(-25.0, 0.2), ClockOffset(25.0, 0.2)


@pytest.mark.parametrize(
    ("clock", "revision", "updated_at"),
    [
        pytest.param(BEHIND, NOW - 1025, NOW - 1000, id="behind"),
        pytest.param(AHEAD, NOW - 975, NOW - 1000, id="ahead"),
        pytest.param(AHEAD, NOW + 20, NOW - 5, id="ahead-and-just-changed"),
        pytest.param(BEHIND, NOW - 24.9, NOW, id="changed-now-as-far-as-is-known"),
        pytest.param(BEHIND, NOW - 20, NOW + 4.8, id="in-the-future-by-either-clock-s-word"),
    ],
)
def test_the_time_of_a_change_is_told_by_our_clock(clock: ClockOffset, revision: float, updated_at: float):
    read = classified(envelope(campaign(updatedAt=stamp(revision))))
    made, _ = stored_from(None, read, NOW, clock)
    assert made.revision == stamp(revision), "compared for equality: as the platform wrote it"
    assert made.updated_at == pytest.approx(updated_at)


def test_a_renewed_validation_brings_the_offset_up_to_date():
    first, _ = stored_from(None, classified(BODY), NOW - 100)
    renewed, is_renewed = stored_from(first, classified(BODY), NOW, BEHIND)
    assert is_renewed
    assert renewed.updated_at == NOW - 1000 + 25


@pytest.mark.parametrize("revision", [None, "soon"])
def test_without_a_readable_revision_there_is_no_time_and_no_offset(revision: str | None):
    made, _ = stored_from(None, classified(envelope(campaign(updatedAt=revision))), NOW, BEHIND)
    assert (made.updated_at, made.clock_offset) == (None, 0.0)


@pytest.mark.parametrize("previous", [None, stored(), absence(5)], ids=["nothing", "a-campaign", "an-absence"])
def test_the_platform_s_own_no_becomes_an_absence(previous: Stored | None):
    made, is_renewed = stored_from(previous, GONE, NOW)
    assert not is_renewed
    assert made == Stored(b"", "", b"", None, None, NOW, Absence(400, "400", "Campaign not found"))


def test_a_campaign_replaces_an_absence():
    made, is_renewed = stored_from(absence(5), classified(BODY), NOW)
    assert not is_renewed
    assert made == stored(validated_at=NOW)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        pytest.param(classified({"message": LIMIT_TEXT}), Verdict.LIMITED, id="limited"),
        pytest.param(classified(b"", 401), Verdict.UNAUTHORIZED, id="unauthorized"),
        pytest.param(classified(b"", 400), Verdict.REJECTED, id="rejected"),
        pytest.param(classified(b""), Verdict.BROKEN, id="broken"),
    ],
)
@pytest.mark.parametrize("previous", [None, stored()], ids=["nothing", "a-campaign"])
def test_a_failure_validates_nothing(answer: Answer, verdict: Verdict, previous: Stored | None):
    assert answer.verdict is verdict
    with pytest.raises(ValueError, match="validates nothing"):
        stored_from(previous, answer, NOW)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param(JSON_TYPE, JSON_TYPE, id="json"),
        pytest.param("application/problem+JSON", "application/problem+JSON", id="rfc6839-3.1-suffix"),
        pytest.param("", "application/json", id="contract-12.20-missing"),
        pytest.param("text/html", "application/json", id="contract-12.20-html"),
        pytest.param("text/plain", "application/json", id="plain"),
    ],
)
def test_what_was_read_as_json_is_called_json(sent: str, kept: str):
    assert stored_from(None, classified(BODY, content_type=sent), NOW)[0].content_type == kept


def test_an_etag_is_strong_stable_and_of_the_bytes():
    # rfc9110-8.8.3: quoted, no weakness mark. Pinned, because replicas of two releases must agree on it.
    assert make_etag(b"{}") == '"bf78e4a953b40eee238ca2e9"'
    assert make_etag(b"{} ") != make_etag(b"{}")


@pytest.mark.parametrize("revision", [None, "soon", "2026-02-02T02:40:00"], ids=["none", "unreadable", "no-zone"])
def test_no_readable_revision_is_no_time_of_change(revision: str | None):
    assert entry(revision=revision).updated_at is None


def test_the_tag_is_made_once_and_not_carried_over_to_another_body(monkeypatch):
    made = stored()
    digests: list[bytes] = []

    def digest(body: bytes) -> bytes:
        digests.append(body)
        return b"digest"

    monkeypatch.setattr(stored_module, "_digest", digest)
    assert (made.etag, made.etag) == ('"646967657374"', '"646967657374"')
    assert digests == [BODY]
    assert replace(made, body=b"{}").etag
    assert digests == [BODY, b"{}"]
    assert made == stored()


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"status":"x","data":{"a":1.50}}', b'{"a":1.50}'),
        (b'\xef\xbb\xbf {"data" : ["\\ud83d", 1] } ', b'["\\ud83d", 1]'),
        ('{"data":"é","datum":"é"}'.encode(), '"é"'.encode()),
        (b'{"other":1}', b"null"),
        (b"[1]", b"null"),
        (b'{"data":null}', b"null"),
    ],
)
def test_its_data_are_the_bytes_of_the_body(body: bytes, data: bytes):
    made = replace(stored(), body=body)
    assert (made.data, made.data) == (data, data)
    assert replace(made, body=b'{"data":2}').data == b"2", "nothing is carried over"
