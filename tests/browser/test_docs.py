"""The page at /docs in a real browser, before the real process: what it shows, what it sends, and to whom."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.browser import Browser, chromium
from tests.support.gateway import gateway_process, settings_for

KEY = "cgk_the-client-key"


async def on_the_page(folder: Path, act: Callable[[Browser, str, dict[str, Any], Sandbox], None]) -> None:
    """Lets `act` use the page of a gateway that knows one client."""
    clients = {"reader": {"key_sha256": hashlib.sha256(KEY.encode()).hexdigest(), "streams": ["support"]}}

    def use(url: str, description: dict[str, Any]) -> None:
        with chromium(folder / "profile") as browser:
            browser.open(f"{url}/docs", ".opblock")
            act(browser, url, description, sandbox)
            assert browser.complaints() == []
            asked = browser.requested()
            assert f"{url}/openapi.json" in asked
            assert [other for other in asked if not other.startswith((f"{url}/", "data:", "blob:"))] == []

    async with Sandbox(SandboxConfig(campaigns=80)) as sandbox:
        settings = settings_for(sandbox, folder, clients=clients, sweep={"share": 0})
        async with gateway_process(settings, folder) as gateway:
            async with gateway.session.get(f"{gateway.url}/openapi.json") as answer:
                description = await answer.json()
            await asyncio.to_thread(use, gateway.url, description)


def shown(browser: Browser) -> set[tuple[str, str]]:
    """Method and path of each operation that is in view."""
    return {
        (
            str(block.get_attribute("class")).split("opblock-")[1].split()[0],
            str(block.find_element(By.CSS_SELECTOR, "[data-path]").get_attribute("data-path")),
        )
        for block in browser.all(".opblock")
    }


async def test_the_page_shows_every_operation_and_asks_nobody_else(tmp_path):
    def act(browser, _url, description, _sandbox):
        whole = {(method, path) for path, item in description["paths"].items() for method in item}
        main = {(method, path) for method, path in whole if method != "head" and not path.startswith("/v1/streams/")}
        assert shown(browser) == main, "the others are folded"
        browser.click('.opblock-tag[data-tag^="The same"]')
        browser.see(".opblock-head")
        assert shown(browser) == whole
        assert browser.see(".info .title").text.startswith("Campaign gateway")
        assert browser.all(".topbar, .information-container .errors-wrapper, img[src*=validator]") == []
        for method in ("get", "head", "post", "put", "delete"):
            browser.click(f".opblock-{method} .opblock-summary-control")
            browser.see(f".opblock-{method}.is-open .responses-table")
            browser.click(f".opblock-{method}.is-open .opblock-summary-control")

    await on_the_page(tmp_path, act)


async def test_a_request_tried_on_the_page_shows_the_gateways_own_answer_each_time(tmp_path):
    def act(browser, _url, _description, sandbox):
        campaign = sandbox.campaigns.all()[3].id
        browser.click(".auth-wrapper .authorize")
        browser.write(".auth-container input", KEY)
        browser.click(".auth-btn-wrapper .authorize")
        browser.click(".auth-btn-wrapper .btn-done")
        browser.click(".opblock-get .opblock-summary-control")
        browser.click(".try-out__btn")
        browser.write("tr[data-param-name=id] input", campaign)
        browser.click(".execute")
        browser.see_text(".live-responses-table .response .response-col_status", "200")
        answer = browser.see(".live-responses-table").text
        assert campaign in answer
        assert "cache-status: campaign-gateway; fwd=uri-miss; fwd-status=200; stored; ttl=" in answer
        assert "etag: " in answer
        assert "x-request-id: " in answer
        # Neither the browser's own copy nor a demand for a newer answer, which would cost another call.
        browser.click(".execute")
        browser.see_text(".live-responses-table", "campaign-gateway; hit; ttl=")
        assert len(sandbox.log.of("get")) == 1

    await on_the_page(tmp_path, act)


async def test_a_request_without_a_key_shows_the_problem(tmp_path):
    def act(browser, url, _description, sandbox):
        browser.click(".opblock-get .opblock-summary-control")
        browser.click(".try-out__btn")
        browser.click(".execute")
        browser.see_text(".live-responses-table .response .response-col_status", "401")
        assert "/problems/unauthenticated" in browser.see(".live-responses-table").text
        # The browser itself notes each refused request on its console.
        (complaint,) = browser.complaints()
        assert complaint.startswith(f"{url}/v1/campaigns/")
        assert sandbox.log.count == 0

    await on_the_page(tmp_path, act)


async def test_the_page_is_as_dark_as_the_reader_wants_it(tmp_path):
    def act(browser, _url, _description, _sandbox):
        def prefer(scheme):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

        prefer("dark")
        browser.until(lambda: browser.all("html.dark-mode"))
        prefer("light")
        browser.until(lambda: not browser.all("html.dark-mode"))

    await on_the_page(tmp_path, act)
