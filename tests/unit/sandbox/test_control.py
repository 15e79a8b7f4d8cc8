import json
import shlex

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from campaign_gateway.sandbox.config import Stream
from campaign_gateway.sandbox.control import merged
from campaign_gateway.sandbox.faults import FaultName


@pytest.fixture
def campaign(platform):
    return platform.made("Agentless")


async def test_the_index_says_what_there_is(platform):
    index = (await platform.control("GET", "")).document
    assert index["stream_id"] == platform.sandbox.config.stream_id
    assert "PATCH /_sandbox/campaigns/{id}" in index["routes"]
    assert index["faults"]["latency"]["parameters"] == {"seconds": 1.0, "performed": False}
    assert "secret" not in index


async def test_each_command_that_the_index_shows_can_be_pasted(platform):
    index = (await platform.control("GET", "")).document
    shown = [*index["routes"].values(), *index["faults"].values()]
    assert len(shown) == len(index["routes"]) + len(FaultName)
    for row in shown:
        curl, quiet, *options = shlex.split(row["curl"])
        assert (curl, quiet) == ("curl", "-s")
        body = json.loads(options[options.index("-d") + 1]) if "-d" in options else None
        method = options[options.index("-X") + 1] if "-X" in options else "GET"
        (url,) = [word for word in options if word.startswith(platform.sandbox.url)]
        path = url.removeprefix(f"{platform.sandbox.url}/_sandbox")
        if "{id}" in path:
            # A fault or a campaign, by what stands before its id.
            (made,) = [row["curl"] for route, row in index["routes"].items() if route == f"POST /_sandbox{path[:-5]}"]
            made_id = (await platform.control("POST", path[:-5], json.loads(shlex.split(made)[-1]))).document["id"]
            path = path.replace("{id}", str(made_id))
        answer = await platform.control(method, path, body)
        assert answer.status == 200, row


async def test_the_log_over_http(platform, campaign):
    for _ in range(3):
        await platform.get(campaign)
    document = (await platform.control("GET", "/log?since=1")).document
    assert [arrival["index"] for arrival in document["arrivals"]] == [1, 2]
    assert (document["next"], document["most_in_window"]) == (3, 2)
    assert document["arrivals"][0]["campaign_id"] == campaign.id
    assert platform.token() not in str(document)
    assert (await platform.control("DELETE", "/log")).document == {"next": 3}
    assert (await platform.control("GET", "/log")).document["arrivals"] == []


async def test_control_calls_are_neither_counted_nor_logged(start):
    platform = await start(calls=1)
    for _ in range(3):
        await platform.control("GET", "/limit")
    assert platform.sandbox.log.count == 0
    assert (await platform.get(platform.sandbox.campaigns.all()[0])).status == 200


async def test_faults_over_http(platform, campaign):
    given = {"name": "status", "status": 503, "times": 2, "operation": "get", "campaign": campaign.id}
    fault = (await platform.control("POST", "/faults", given)).document
    assert (await platform.get(campaign)).status == 503
    listed = (await platform.control("GET", "/faults")).document["faults"]
    assert listed == [fault | {"times": 1, "met": 1}]
    assert (await platform.control("DELETE", f"/faults/{fault['id']}")).status == 200
    assert (await platform.get(campaign)).status == 200
    await platform.control("POST", "/faults", {"name": "reset", "operation": None, "times": None})
    assert (await platform.control("DELETE", "/faults")).document == {"faults": []}
    assert (await platform.get(campaign)).status == 200


async def test_campaigns_over_http(platform, campaign):
    listed = (await platform.control("GET", "/campaigns")).document["campaigns"]
    assert [one["id"] for one in listed] == [one.id for one in platform.sandbox.campaigns.all()]
    shown = (await platform.control("GET", f"/campaigns/{campaign.id}")).document
    assert (shown["type"], shown["due"], shown["fields"]["name"]) == ("voice", None, campaign.name)


async def test_a_patch_merges_and_moves_the_revision(platform, campaign):
    patch = {"name": "Patched", "dialingStrategy": {"maxRingTime": 99}, "experienceFlow": None}
    await platform.control("PATCH", f"/campaigns/{campaign.id}", patch)
    read = (await platform.get(campaign)).document["data"]
    assert (read["name"], read["lname"], read["dialingStrategy"]["maxRingTime"]) == ("Patched", "patched", 99)
    assert read["dialingStrategy"]["callerId"] == campaign.fields["dialingStrategy"]["callerId"]
    assert "experienceFlow" not in read
    assert read["updatedAt"] != campaign.fields["updatedAt"]


async def test_a_quiet_patch_does_not_move_the_revision(platform, campaign):
    await platform.control("PATCH", f"/campaigns/{campaign.id}?quiet=true", {"name": "Patched"})
    read = (await platform.get(campaign)).document["data"]
    assert (read["name"], read["updatedAt"]) == ("Patched", campaign.fields["updatedAt"])


@pytest.mark.parametrize(("mark", "shown"), [("not a date", "not a date"), (None, None), (5, 5)])
async def test_a_revision_by_hand(platform, campaign, mark, shown):
    await platform.control("PATCH", f"/campaigns/{campaign.id}", {"updatedAt": mark})
    assert (await platform.get(campaign)).document["data"].get("updatedAt") == shown
    assert (await platform.rows(sortBy={"updatedAt": "asc"})).status == 200
    await platform.control("PATCH", f"/campaigns/{campaign.id}", {"priority": "1"})
    assert (await platform.get(campaign)).document["data"]["updatedAt"].endswith("Z")


async def test_making_and_deleting_by_hand(platform):
    made = (
        await platform.control("POST", "/campaigns", {"form": "simple", "name": "By hand", "status": "Paused"})
    ).document
    read = (await platform.get(made["id"])).document["data"]
    assert (read["name"], read["status"], read["format"]) == ("By hand", "Paused", "simple")
    assert (await platform.control("DELETE", f"/campaigns/{made['id']}")).document == {"deleted": made["id"]}
    assert (await platform.get(made["id"])).status == 400
    bare = (await platform.control("POST", "/campaigns")).document
    assert (bare["type"], bare["fields"]["status"], bare["due"]["status"]) == ("voice", "Preparing", "Ready")


async def test_campaigns_of_another_stream(start):
    platform = await start(streams=(Stream("st-2", "2", campaigns=3),))
    assert len((await platform.control("GET", "/campaigns?stream=st-2")).document["campaigns"]) == 3
    assert (await platform.control("GET", "/campaigns?stream=st-3")).status == 404


async def test_rotation_over_http(platform, campaign):
    old = platform.token()
    secret = "another secret of sixty-four bytes, and otherwise much like the 1"
    reply = await platform.control("PUT", "/secret", {"secret": secret})
    assert (reply.status, reply.document) == (200, {"replaced": "secret"})
    assert (await platform.get(campaign, headers={"auth": old})).status == 401
    assert platform.sandbox.app.secret == secret


async def test_rotation_of_a_key_pair_over_http(start):
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key() for _ in range(2)]
    old, new = (key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in keys)
    platform = await start(algorithm="RS256", public_key=old)
    assert (await platform.control("PUT", "/secret", {"public_key": "rubbish"})).status == 400
    assert (await platform.control("PUT", "/secret", {"secret": "x"})).status == 400
    assert platform.sandbox.app.public_key == old
    assert (await platform.control("PUT", "/secret", {"public_key": new})).status == 200
    assert platform.sandbox.app.public_key == new


async def test_the_rows_of_a_page_over_http(start):
    platform = await start(campaigns=120)
    assert (await platform.control("GET", "/lists")).document == {"page_rows": 50}
    assert len((await platform.rows(limit=100)).document["data"]["results"]) == 50
    assert (await platform.control("PUT", "/lists", {"page_rows": 7})).document == {"page_rows": 7}
    data = (await platform.rows(limit=100)).document["data"]
    assert (len(data["results"]), data["limit"], data["hasMore"]) == (7, 7, True)


async def test_the_limit_over_http(platform, campaign):
    await platform.get(campaign)
    shown = (await platform.control("PUT", "/limit", {"calls": 2})).document
    account = platform.sandbox.config.account_id
    assert shown == {"calls": 2, "window_seconds": 60.0, "count_refused": False, "used": {account: 1}}
    statuses = [(await platform.get(campaign)).status for _ in range(2)]
    assert statuses == [200, 429]
    assert (await platform.control("GET", "/limit")).document["used"] == {account: 2}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "complaint"),
    [
        ("GET", "/nothing", None, 404, "GET /_sandbox lists"),
        ("GET", "/log/5", None, 404, "no such path"),
        ("POST", "/log", None, 405, "takes GET, DELETE"),
        ("GET", "/log?since=x", None, 400, "since"),
        ("POST", "/faults", [], 400, "object"),
        ("POST", "/faults", {}, 400, "name must be one of"),
        ("POST", "/faults", {"name": "earthquake"}, 400, "no such fault"),
        ("POST", "/faults", {"name": "reset", "seconds": 5}, 400, "has no seconds"),
        ("POST", "/faults", {"name": "reset", "operation": []}, 400, "operation must be text"),
        ("POST", "/faults", {"name": "reset", "campaign": 5}, 400, "campaign must be text"),
        ("POST", "/faults", {"name": "reset", "times": -1}, 400, "times"),
        ("POST", "/faults", {"name": "reset", "self": 1}, 400, "has no self"),
        ("DELETE", "/faults/99", None, 404, "no fault"),
        ("DELETE", "/faults/x", None, 400, "number"),
        ("GET", "/campaigns/cd-1", None, 404, "no campaign"),
        ("PATCH", "/campaigns/cd-1", {}, 404, "no campaign"),
        ("DELETE", "/campaigns/cd-1", None, 404, "no campaign"),
        ("POST", "/campaigns", {"form": "fax"}, 400, "form must be one of"),
        ("POST", "/campaigns", {"form": []}, 400, "form must be one of"),
        ("POST", "/campaigns", {"name": 5}, 400, "name must keep"),
        ("PUT", "/secret", {}, 400, "secret"),
        ("PUT", "/secret", {"secret": ""}, 400, "secret"),
        ("PUT", "/secret", {"secret": "x", "algorithm": "none"}, 400, "alone"),
        ("PUT", "/limit", {"calls": -1}, 400, "calls"),
        ("PUT", "/limit", {"calls": 1.5}, 400, "calls"),
        ("PUT", "/limit", {"calls": True}, 400, "calls"),
        ("PUT", "/limit", {"window_seconds": 0}, 400, "window_seconds"),
        ("PUT", "/limit", {"count_refused": 1}, 400, "count_refused"),
        ("PUT", "/limit", {"burst": 5}, 400, "no burst"),
        ("PUT", "/lists", {"page_rows": 0}, 400, "page_rows"),
        ("PUT", "/lists", {"page_rows": 1.5}, 400, "page_rows"),
        ("PUT", "/lists", {"rows": 5}, 400, "no rows"),
    ],
)
async def test_bad_control_calls(platform, method, path, body, status, complaint):
    reply = await platform.control(method, path, body)
    assert reply.status == status
    assert complaint in reply.document["error"]


async def test_a_body_that_is_not_json(platform):
    reply = await platform.send("POST", f"{platform.sandbox.url}/_sandbox/faults", data=b"{")
    assert (reply.status, reply.document) == (400, {"error": "the body is not JSON"})


@pytest.mark.parametrize(
    "patch", [{"name": None}, {"status": 5}, {"createdAt": "soon"}, {"contactLists": "x"}, {"contactLists": [5]}]
)
async def test_fields_that_must_keep_their_form(platform, campaign, patch):
    assert (await platform.control("PATCH", f"/campaigns/{campaign.id}", patch)).status == 400


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ],
)
def test_merge_patch_rfc_7396(target, patch, result):
    assert merged(target, patch) == result
