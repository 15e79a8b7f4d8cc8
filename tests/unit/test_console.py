"""What the console is told of a gateway in front of the simulated platform, value by value."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway.app import running
from campaign_gateway.policy.cells import CellKind
from campaign_gateway.policy.ledger import Lane, PauseState
from campaign_gateway.policy.sweeping import ListFlaw
from campaign_gateway.policy.visibility import ListCondition
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from campaign_gateway.settings import read_tree
from tests.support.gateway import settings_for
from tests.support.waiting import until

KEY, READER = "cgk_with-all-rights", "cgk_that-may-read"


class Desk:
    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession, url: str, admin: str) -> None:
        self.sandbox, self._session, self._url, self._admin = sandbox, session, url, admin
        self.ids = [campaign.id for campaign in sandbox.campaigns.all()]

    async def read(self, campaign: str) -> int:
        fields = {"Authorization": f"Bearer {KEY}"}
        async with self._session.get(f"{self._url}/v1/campaigns/{campaign}", headers=fields) as answer:
            return answer.status

    async def get(self, path: str, status: int = 200) -> Any:
        async with self._session.get(f"{self._admin}/console{path}") as answer:
            assert answer.status == status
            return await answer.json()

    async def state(self) -> Any:
        return await self.get("/state.json")

    async def purge(self, key: str | None = KEY, stream: str = "support", **fields: str) -> int:
        sent = fields if key is None else {"Authorization": f"Bearer {key}", **fields}
        body = {"stream": stream, "campaign": self.ids[0]}
        async with self._session.post(f"{self._admin}/console/purge", json=body, headers=sent) as answer:
            return answer.status


@asynccontextmanager
async def open_desk(folder: Path, **sections: Any) -> AsyncIterator[Desk]:
    def client(key: str, *scopes: str) -> dict[str, Any]:
        return {"key_sha256": hashlib.sha256(key.encode()).hexdigest(), "streams": ["support"], "scopes": [*scopes]}

    rows = [{"sha256": "0" * 64, "note": "old", "expires": "2999-01-01"}]
    rows.append({"sha256": hashlib.sha256(READER.encode()).hexdigest(), "note": "new"})
    clients = {"team": client(KEY, "read", "write", "purge"), "reader": {"keys": rows, "streams": ["support"]}}
    async with Sandbox(SandboxConfig(campaigns=20)) as sandbox:
        settings = read_tree(settings_for(sandbox, folder, **{"clients": clients, "sweep": {"share": 0}, **sections}))
        async with running(settings) as gateway, aiohttp.ClientSession() as session:
            yield Desk(sandbox, session, f"http://{gateway.listen}", f"http://{gateway.admin_listen}")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as made:
        yield made


def kinds(state: Any) -> Counter[str]:
    return Counter(cell["kind"] for cell in state["account"]["cells"])


async def test_before_anything_is_asked_all_calls_are_free(desk):
    state = await desk.state()
    assert kinds(state) == {"free": 55, "reserve": 5}
    assert (state["calls"], state["figures"]["answers"], state["stream"], state["worker"]) == ([], {}, "support", None)
    assert {chip["name"]: chip["status"] for chip in state["strip"]} == dict.fromkeys(
        ("listener", "platform", "credential", "store", "list", "replicas"), "ok"
    )
    assert {chip["text"] for chip in state["strip"]} >= {"callers", "credential main v1", "store memory", "list voice"}


async def test_a_miss_spends_a_cell_and_a_hit_spends_none(desk):
    assert await desk.read(desk.ids[0]) == 200
    state = await desk.state()
    assert kinds(state) == {"call": 1, "free": 54, "reserve": 5}
    cell = state["account"]["cells"][0]
    assert (cell["lane"], cell["client"]) == ("interactive", "team")
    assert 0 < cell["free_in"] <= 73
    [call] = state["calls"]
    told = ("operation", "campaign", "lane", "client", "reason", "outcome", "status")
    assert [call[name] for name in told] == ["get", desk.ids[0], "interactive", "team", "uri-miss", "ok", 200]
    assert await desk.read(desk.ids[0]) == 200
    state = await desk.state()
    assert kinds(state)["call"] == 1
    assert state["figures"]["answers"] == {"miss": 1, "hit": 1}
    assert state["figures"]["at_once"] == 0.5
    team = next(row for row in state["clients"] if row["name"] == "team")
    assert (team["requests"], team["hits"], team["calls"]) == (2, 1, 1)
    [key] = team["keys"]
    assert 0 <= key["last_used_ago"] < 60
    assert key["expires_in"] is None, "it does not end"
    [reader] = [row for row in state["clients"] if row["name"] == "reader"]
    assert [(row["name"], row["last_used_ago"]) for row in reader["keys"]] == [("old", None), ("new", None)]
    assert [row["expires_in"] is None for row in reader["keys"]] == [False, True]
    assert state["generation"] == 1


async def test_a_pause_shows_as_it_begins(desk):
    desk.sandbox.faults.add("limit-429-seconds", times=1, retry_after_seconds=30)
    assert await desk.read(desk.ids[0]) == 503
    state = await desk.state()
    assert state["account"]["pause"] == "paused"
    assert 0 < state["account"]["pause_left"] <= 30
    assert state["account"]["remaining"] == 0
    assert (state["calls"][0]["outcome"], state["calls"][0]["status"]) == ("limited", 429)
    assert any("the platform asked for a pause" in event["text"] for event in state["events"])
    assert next(chip for chip in state["strip"] if chip["name"] == "budget")["status"] == "degraded"


async def test_a_campaign_is_found_by_its_id_and_by_its_name(desk):
    await desk.read(desk.ids[0])
    found = await desk.get(f"/campaigns.json?q={desk.ids[0][3:12].upper()}")
    [row] = found["rows"]
    assert (row["id"], row["name"]) == (desk.ids[0], desk.sandbox.campaigns.all()[0].fields["name"])
    assert (row["known"]["is_stored"], row["known"]["proof"], row["known"]["next"]) == (True, "read", "answer from it")
    assert row["reads"] > 0
    assert (await desk.get("/campaigns.json?q=nothing-like-it"))["total"] == 0
    await desk.read("no-such-campaign")
    await desk.read("tel-4930123456")
    rows = (await desk.get("/campaigns.json?count=1&first=1"))["rows"]
    assert [row["known"]["is_absent"] for row in rows] == [True]
    shown = (await desk.get("/campaigns.json"))["rows"]
    assert sorted(row["id"] for row in shown) == sorted([desk.ids[0], "no-such-campaign"])


async def test_campaigns_that_the_list_shows_are_found_before_they_are_read(tmp_path):
    async with open_desk(tmp_path, sweep={"share": 0.5}) as desk:
        for id_ in desk.ids[:6]:
            await desk.read(id_)

        async def is_listed() -> bool:
            return bool((await desk.get("/campaigns.json"))["total"] == 20)

        await until(is_listed, 30)
        name = desk.sandbox.campaigns.all()[10].fields["name"]
        found = await desk.get("/campaigns.json", 200)
        assert name in {row["name"] for row in found["rows"]}
        lists = {row["channel"]: row for row in (await desk.state())["lists"]}
        assert any(row["is_polled"] and row["polled_ago"] is not None for row in lists.values())


async def test_a_forecast_takes_what_it_is_told_instead_of_what_is_so(desk):
    await desk.read(desk.ids[0])
    seen = await desk.get("/forecast.json?calls=30&reserve=4&others=6&used=12&changes=3")
    assert (seen["now"]["calls"], seen["now"]["used"], seen["now"]["others"]) == (60, 1, 1.0)
    assert [seen["what_if"][name] for name in ("calls", "reserve", "used", "others", "changes")] == [
        30,
        4,
        12,
        6.0,
        3.0,
    ]
    assert seen["what_if"]["capacity"] == 26.0


@pytest.mark.parametrize(
    "query", ["calls=0", "calls=nan", "share=2", "reserve=99", "others=-1", "calls=x", "calls=1e9"]
)
async def test_a_forecast_of_what_cannot_be_is_refused(desk, query):
    assert (await desk.get(f"/forecast.json?{query}", 400))["detail"]


async def test_settings_are_as_check_prints_them_with_what_is_not_by_default(desk):
    rows = {row["key"]: row for row in (await desk.get("/settings.json"))["rows"]}
    assert (rows["sweep.share"]["value"], rows["sweep.share"]["is_changed"]) == (0.0, True)
    assert rows["keepalive"]["is_changed"] is False
    secret = desk.sandbox.config.secret
    assert secret not in str(rows)


async def test_nothing_of_it_holds_a_secret_a_key_or_a_phone_number(desk):
    for campaign in (desk.ids[0], "tel-4930123456", "4930123456"):
        await desk.read(campaign)
    assert await desk.purge() == 200
    shown = [await desk.get(path) for path in ("/state.json", "/campaigns.json", "/forecast.json", "/settings.json")]
    for hidden in (desk.sandbox.config.secret, KEY, READER, "4930123456"):
        assert hidden not in json.dumps(shown)


async def test_an_unknown_stream_is_none(desk):
    for path in ("/state.json", "/campaigns.json", "/forecast.json"):
        await desk.get(f"{path}?stream=other", 404)


@pytest.mark.drill(
    "a page of another site purges in the console",
    planted="its `Origin`, its `Sec-Fetch-Site`, a name that was made to point here, a form; keys of nobody and without the scope",
    seen="refused, and what is stored stays fresh",
)
@pytest.mark.parametrize(
    ("key", "stream", "fields", "status"),
    [
        pytest.param(KEY, "support", {}, 200, id="with-the-scope"),
        pytest.param(READER, "support", {}, 403, id="without-the-scope"),
        pytest.param("cgk_of-nobody", "support", {}, 401, id="a-key-of-nobody"),
        pytest.param(None, "support", {}, 401, id="without-a-key"),
        pytest.param(KEY, "other", {}, 403, id="another-stream"),
        pytest.param(KEY, "support", {"Origin": "https://elsewhere.example"}, 403, id="another-origin"),
        pytest.param(KEY, "support", {"Sec-Fetch-Site": "cross-site"}, 403, id="another-site"),
        pytest.param(KEY, "support", {"Host": "elsewhere.example"}, 403, id="a-name-that-was-made-to-point-here"),
        pytest.param(KEY, "support", {"Content-Type": "text/plain"}, 400, id="as-a-form-would-send-it"),
    ],
)
async def test_a_purge_wants_a_key_with_the_scope_and_comes_from_this_page(desk, key, stream, fields, status):
    await desk.read(desk.ids[0])
    assert await desk.purge(key, stream, **fields) == status
    [row] = (await desk.get("/campaigns.json"))["rows"]
    assert (row["known"]["next"] == "answer from it") is (status != 200)


@pytest.mark.parametrize(
    ("file", "form", "words"),
    [
        pytest.param("screens.js", r'^  "?{}"?: "', ListFlaw, id="flaws"),
        pytest.param("overview.js", r"^    {}: [`\"]", CellKind, id="cells"),
        pytest.param("overview.js", r"\b{}: ", Lane, id="lanes"),
        pytest.param("overview.js", r"^    {}: ", PauseState, id="pauses"),
        pytest.param("console.css", r"(?m)^\.{} {{", ListCondition, id="conditions"),
        pytest.param("console.css", r"\.{}\b", CellKind, id="how-cells-look"),
    ],
)
def test_the_page_has_a_word_for_whatever_there_can_be(file, form, words):
    text = resources.files("campaign_gateway.admin.console").joinpath("static", file).read_text("utf-8")
    assert [word.value for word in words if not re.search(form.format(re.escape(word.value)), text, re.MULTILINE)] == []
