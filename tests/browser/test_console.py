"""The console in a real browser, before the real process: what it shows, that nothing in it moves, and whom it asks."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from selenium.webdriver.common.keys import Keys

from campaign_gateway.app.build import plan_gateway
from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.request import Request
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from campaign_gateway.settings import read_tree
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.snapshot import Snapshot
from campaign_gateway.store.memory import MemoryStore
from tests.support.browser import Browser, chromium
from tests.support.gateway import gateway_process, settings_for
from tests.support.meters import CountingMeter

KEY = "cgk_the-client-key"
WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    for (const source of entry.sources)
      if (source.node?.closest?.("main")) window.shifts.push(`${entry.value} ${source.node.outerHTML.slice(0, 120)}`);
}).observe({ type: "layout-shift" });
"""
"""Notes all that moves below the strip from now on, without anybody having touched anything."""


class Desk:
    """A gateway, what it asks, and a browser on its console."""

    def __init__(
        self, browser: Browser, url: str, admin: str, sandbox: Sandbox, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.browser, self.url, self.admin, self.sandbox, self._loop = browser, url, admin, sandbox, loop
        self.ids = [campaign.id for campaign in sandbox.campaigns.all()]

    def read(self, campaign: str) -> int:
        async def ask() -> int:
            key, url = {"Authorization": f"Bearer {KEY}"}, f"{self.url}/v1/campaigns/{campaign}"
            async with aiohttp.ClientSession(headers=key) as session, session.get(url) as answer:
                return answer.status

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(30)

    def open(self, screen: str) -> None:
        self.browser.open(f"{self.admin}/console#{screen}", "body[data-refresh=on]")

    def run(self, script: str) -> Any:
        return self.browser.driver.execute_script(script)

    def wait(self, script: str, *expected: Any) -> Any:
        """Waits for a script to return what is expected, or anything true."""
        return self.browser.until(lambda: self.run(script) in expected if expected else self.run(script))

    def cells(self, kind: str) -> int:
        found = self.run(f"return document.querySelectorAll('#overview .cells .{kind}').length")
        assert isinstance(found, int)
        return found


async def leave_entries(settings: dict[str, Any], sandbox: Sandbox) -> None:
    """What an earlier process of this gateway has left of all the sandbox' campaigns: thousands of reads take long."""
    plan = plan_gateway(read_tree(settings))
    [stream] = plan.streams.values()
    memory = MemoryStore(plan.settings.cache.local_max_bytes, StoreClock(), CountingMeter())
    snapshot = Snapshot(Path(settings["cache"]["state_dir"]), memory, frozenset({stream.identity}), 2**26)
    for campaign in sandbox.campaigns.all():
        body = json.dumps({"data": {"_id": campaign.id, "name": campaign.fields["name"]}}).encode()
        key, stored = (
            Request(stream, GET, campaign.id, "").key,
            Stored(body, "application/json", b"", None, None, time.time()),
        )
        await memory.put(key, stored, memory.peek(key).fence, 86_400)
    await snapshot.close()


async def at_the_desk(
    folder: Path, act: Callable[[Desk], None], campaigns: int = 80, *, is_warm: bool = False, **sections: Any
) -> None:
    """Lets `act` use the console of a gateway that knows one client."""
    row = {"key_sha256": hashlib.sha256(KEY.encode()).hexdigest(), "streams": ["support"], "scopes": ["read", "purge"]}

    def use(url: str, admin: str, loop: asyncio.AbstractEventLoop) -> None:
        with chromium(folder / "profile") as browser:
            act(Desk(browser, url, admin, sandbox, loop))
            assert browser.complaints() == []
            asked = browser.requested()
            assert f"{admin}/console/state.json" in asked
            assert [other for other in asked if not other.startswith((f"{admin}/", "data:", "about:"))] == []

    async with Sandbox(SandboxConfig(campaigns=campaigns)) as sandbox:
        settings = settings_for(sandbox, folder, clients={"team": row}, **sections)
        if is_warm:
            await leave_entries(settings, sandbox)
        async with gateway_process(settings, folder) as gateway:
            await asyncio.to_thread(use, gateway.url, gateway.admin_url, asyncio.get_running_loop())


async def test_it_shows_a_miss_a_hit_and_a_pause_and_nothing_moves(tmp_path):
    def act(desk):
        desk.open("overview")
        assert (desk.cells("call"), desk.cells("free"), desk.cells("reserve")) == (0, 55, 5)
        desk.run(WATCH)
        assert desk.read(desk.ids[0]) == 200
        desk.wait("return document.querySelectorAll('#overview .cells .call.interactive').length", 1)
        desk.wait(
            "return document.querySelector('#calls tbody tr').textContent.includes(arguments[0] ?? 'uri-miss')", True
        )
        desk.browser.see_text("#slowest-more", "miss 1")
        assert desk.read(desk.ids[0]) == 200
        desk.browser.see_text("#slowest-more", "hit 1")
        assert desk.cells("call") == 1
        desk.sandbox.faults.add("limit-429-seconds", times=1, retry_after_seconds=250)
        assert desk.read(desk.ids[1]) == 503
        desk.browser.see("#overview .cells.paused")
        desk.browser.see_text("#overview .state", "s left")
        desk.browser.see_text("#events li", "the platform asked for a pause")
        desk.browser.see_text("#strip .chip.degraded", "budget")
        assert desk.run("return document.querySelectorAll('#overview .cells i').length") == 60
        assert desk.run("return window.shifts") == []
        # Arrow keys tell of each cell.
        desk.browser.see("#overview .cells").send_keys(Keys.ARROW_RIGHT)
        desk.browser.see_text("#overview .picked-text", "callers: a call for team, falls free in")
        # Nobody asks for what nobody sees, and an old picture says that it is one.
        hidden = "Object.defineProperty(document, 'visibilityState', {{ value: '{}', configurable: true }});"
        told = "document.dispatchEvent(new Event('visibilitychange'));"
        desk.run(hidden.format("hidden") + told)
        desk.wait("return document.body.dataset.refresh", "stopped")
        desk.run(hidden.format("visible") + told)
        desk.wait("return document.body.dataset.refresh", "on")
        desk.run("window.fetch = () => Promise.reject(new Error('gone'))")
        desk.browser.see_text("#strip .chip.down", "no answer")

    await at_the_desk(tmp_path, act, sweep={"share": 0})


async def test_a_campaign_is_found_explained_and_purged_with_a_key(tmp_path):
    def act(desk):
        campaign = desk.sandbox.campaigns.all()[0]
        assert desk.read(campaign.id) == 200
        desk.open("campaigns")
        desk.browser.write("#question", campaign.id[:12])
        desk.browser.click(f"button[data-id='{campaign.id}']")
        assert campaign.fields["name"] in desk.browser.see("#one-name").text
        desk.browser.see_text("#one-next", "answer from it")
        steps = [step.text for step in desk.browser.all("#line li b")]
        assert steps.index("edited") < steps.index("read") < steps.index("now") < steps.index("fresh until")
        desk.browser.click("#purge")
        assert "one call of the background lane" in desk.browser.see("#confirm-cost").text
        desk.browser.click("#confirm-yes")
        desk.browser.see_text("#purged", "Not purged: send Authorization: Bearer <client key>.")
        # The browser itself notes each refused request on its console.
        [complaint] = desk.browser.complaints()
        assert complaint.startswith(f"{desk.admin}/console/purge")
        assert desk.sandbox.log.count == 1
        desk.browser.click("#purge")
        desk.browser.write("#key", KEY)
        desk.browser.click("#confirm-yes")
        desk.browser.see_text("#purged", "Purged.")
        desk.browser.until(lambda: len(desk.sandbox.log.of("get")) == 2)
        desk.wait("return document.querySelector('#rows tbody tr').cells[7].textContent", "answer from it")

    await at_the_desk(tmp_path, act, sweep={"share": 0})


async def test_each_screen_is_drawn_in_light_and_dark_and_on_a_phone(tmp_path):
    first = {
        "overview": ".cells .call",
        "campaigns": "#rows tbody tr",
        "budget": "#forecast tbody tr",
        "freshness": "#polls rect.off",
        "clients": "#who tbody tr",
        "settings": "#values tbody tr",
    }

    def act(desk):
        assert desk.read(desk.ids[0]) == 200
        for scheme, width in (("light", 1200), ("dark", 1200), ("dark", 360)):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
            desk.browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            desk.browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            for screen, selector in first.items():
                desk.open(screen)
                desk.browser.see(f"#{screen}")
                desk.wait(f"return document.querySelector('#{screen} {selector}') !== null", True)
                assert desk.run("return document.documentElement.scrollWidth <= innerWidth"), (screen, width)
            back = desk.run("return getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, back[4:-1].split(","))) < 200) is (scheme == "dark")

    await at_the_desk(tmp_path, act)


async def test_five_thousand_campaigns_are_a_page_at_a_time(tmp_path):
    def act(desk):
        desk.open("campaigns")
        desk.wait("return document.querySelector('#found').textContent", "1 to 50 of 5,000")
        desk.browser.click("#next")
        desk.browser.see_text("#found", "51 to 100 of 5,000")
        desk.browser.write("#question", desk.ids[4000])
        desk.browser.see_text("#found", "1 to 1 of 1")
        desk.browser.click(f"button[data-id='{desk.ids[4000]}']")
        assert desk.ids[4000] in desk.browser.see("#one-name").text
        assert desk.run("return document.querySelectorAll('*').length") < 5000
        assert desk.sandbox.log.count == 0

    cache = {"state_dir": str(tmp_path / "state")}
    await at_the_desk(tmp_path, act, campaigns=5000, is_warm=True, cache=cache, sweep={"share": 0})
