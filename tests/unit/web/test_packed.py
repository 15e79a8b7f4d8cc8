import gzip
import json
from dataclasses import replace

import pytest
from aiohttp import web

from campaign_gateway.web import packed
from campaign_gateway.web.packed import LEAST_BYTES, Packer
from tests.unit.web.conftest import BODY, ENTRY, HIT

A = "/campaign/api/v2/public/st-1"
ROWS = json.dumps({"data": [{"_id": f"c-{number}", "name": "Tide"} for number in range(2_000)]}).encode()
LARGE = replace(HIT, entry=replace(ENTRY, body=ROWS))
LISTS = [
    pytest.param("/v1/campaigns?type=sms", "GET", b"", id="list"),
    pytest.param("/v1/contact-lists", "GET", b"", id="contact-lists"),
    pytest.param(f"{A}/campaign/getAllCampaignDetails", "POST", b'{"type": "sms"}', id="the-platforms-path"),
]


@pytest.mark.parametrize(("target", "method", "body"), LISTS)
async def test_a_list_is_packed_for_whoever_can_unpack_it_and_has_a_tag_of_its_own(front, target, method, body):
    front.exchange.reply = LARGE
    plain = await front.ask(target, method=method, body=body)
    coded = await front.ask(target, "Accept-Encoding: br, gzip", method=method, body=body)
    assert plain.body == gzip.decompress(coded.body) == ROWS
    assert len(coded.body) < len(ROWS) / 4
    assert "Content-Encoding" not in plain.fields
    assert (coded["Content-Encoding"], coded["Vary"], plain["Vary"]) == ("gzip", "Accept-Encoding", "Accept-Encoding")
    assert coded["ETag"] == f'{plain["ETag"][:-1]}-gzip"'
    for field in ("Age", "Cache-Control", "Cache-Status", "Content-Type"):
        assert coded[field] == plain[field]


@pytest.mark.parametrize("accepted", ["Accept-Encoding: gzip", "Accept-Encoding: identity"])
async def test_a_copy_is_good_in_the_coding_that_it_has(front, accepted):
    front.exchange.reply = LARGE
    target = "/v1/campaigns?type=sms"
    has = await front.ask(target, accepted)
    for field in (has["ETag"], f"W/{has['ETag']}", "*"):
        held = await front.ask(target, accepted, f"If-None-Match: {field}")
        assert (held.status, held.body) == (304, b"")
        assert (held["ETag"], held["Vary"]) == (has["ETag"], "Accept-Encoding")
        assert "Content-Encoding" not in held.fields
    other = {"Accept-Encoding: gzip": "Accept-Encoding: identity"}.get(accepted, "Accept-Encoding: gzip")
    assert (await front.ask(target, other, f"If-None-Match: {has['ETag']}")).status == 200


async def test_the_head_of_a_packed_list_is_that_of_the_whole_one(front):
    front.exchange.reply = LARGE
    asked = "/v1/campaigns?type=sms", "Accept-Encoding: gzip"
    whole, head = await front.ask(*asked), await front.ask(*asked, method="HEAD")
    assert head.body == b""
    for field in ("Content-Length", "Content-Encoding", "ETag", "Vary"):
        assert head[field] == whole[field]


@pytest.mark.parametrize(
    ("size", "is_packed"), [(LEAST_BYTES - 1, False), (LEAST_BYTES, True), (33_000, True), (400_000, True)]
)
@pytest.mark.parametrize("target", ["/v1/campaigns?type=sms", "/v1/campaigns?ids=a"])
async def test_what_fits_into_a_packet_is_not_packed(front, target, size, is_packed):
    campaign = json.dumps({"data": {"a": ""}}).encode()
    campaign = campaign.replace(b'""', b'"%b"' % (b"x" * (size - len(campaign))))
    front.exchange.reply = replace(HIT, entry=replace(ENTRY, body=campaign))
    answer = await front.ask(target, "Accept-Encoding: gzip")
    if "ids" not in target or size != LEAST_BYTES - 1:
        # A batch has more around it.
        assert (answer.fields.get("Content-Encoding") == "gzip") == is_packed
    body = gzip.decompress(answer.body) if "Content-Encoding" in answer.fields else answer.body
    assert b"x" * (size - 100) in body
    assert answer["Vary"] == "Accept-Encoding"


async def test_an_answer_by_id_and_a_problem_are_as_they_are(front):
    front.exchange.reply = LARGE
    for target in ("/v1/campaigns/c-1", "/v1/campaigns/c-1?fields=data", "/v1/campaigns/c-1/status"):
        answer = await front.ask(target, "Accept-Encoding: gzip")
        assert answer.body == ROWS
        assert not {"Content-Encoding", "Vary"} & set(answer.fields)
    answer = await front.ask("/v1/campaigns", "Accept-Encoding: gzip")
    assert (answer.status, "Content-Encoding" in answer.fields) == (400, False)


async def test_a_batch_is_packed(front):
    front.exchange.reply = LARGE
    plain, coded = [await front.ask("/v1/campaigns?ids=a,b", *fields) for fields in ((), ("Accept-Encoding: gzip",))]
    assert gzip.decompress(coded.body) == plain.body
    assert (coded["Content-Encoding"], "ETag" in coded.fields) == ("gzip", False)


def response(tag: str, body: bytes = BODY) -> web.Response:
    return web.Response(body=body, headers={"Content-Encoding": "gzip", "ETag": tag})


async def test_what_was_packed_lately_is_not_packed_again_and_the_oldest_is_dropped(monkeypatch):
    made: list[bytes] = []

    def note(body: bytes) -> bytes:
        made.append(body)
        return body

    monkeypatch.setattr(packed, "pack", note)
    monkeypatch.setattr(packed, "MAX_KEPT_BYTES", 100)
    packer = Packer()
    for tag in ("a", "b", "a", "b", "c", "b", "a"):
        assert (await packer.pack(response(tag, tag.encode() * 40))).body == tag.encode() * 40
    assert [body[:1] for body in made] == [b"a", b"b", b"c", b"a"]
    assert packer._bytes == sum(map(len, packer._kept.values())) <= 100
    await packer.pack(response("huge", b"h" * 101))
    assert "huge" not in packer._kept
