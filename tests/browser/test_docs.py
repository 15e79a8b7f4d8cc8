"""The page at /docs in a real browser, before the real process: what it shows, what it sends, and to whom."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import gateway_process, settings_for

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1200,1600"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nor does the browser itself reach anybody
)
KEY = "cgk_the-client-key"
SECONDS = 15
"""For any one thing to appear."""


class Browser:
    """A browser on the page, and the few things that a reader of it does and sees."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver
        self._wait = WebDriverWait(driver, SECONDS)

    def open(self, url: str) -> None:
        self._driver.get(url)
        self.see(".opblock")

    def see(self, selector: str) -> WebElement:
        return self._wait.until(expected_conditions.visibility_of_element_located((By.CSS_SELECTOR, selector)))

    def see_text(self, selector: str, text: str) -> None:
        self._wait.until(expected_conditions.text_to_be_present_in_element((By.CSS_SELECTOR, selector), text))

    def all(self, selector: str) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self._wait.until(expected_conditions.element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

    def write(self, selector: str, text: str) -> None:
        field = self.see(selector)
        self._driver.execute_script("arguments[0].select()", field)
        field.send_keys(text)

    def complaints(self) -> list[str]:
        """What the console says since last asked: errors, warnings, and what the policy kept from happening."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Every URL that the page has made the browser ask for; `chrome:` is what the browser's own first tab is made of."""
        events = (json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance"))
        urls = (event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent")
        return [url for url in urls if not url.startswith("chrome://")]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program is not None
    assert driver is not None
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Both programs are named, so Selenium looks for none and fetches none.
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as running:
        yield Browser(running)


async def on_the_page(folder: Path, act: Callable[[Browser, str, dict[str, Any], Sandbox], None]) -> None:
    """Lets `act` use the page of a gateway that knows one client."""
    clients = {"reader": {"key_sha256": hashlib.sha256(KEY.encode()).hexdigest(), "streams": ["support"]}}

    def use(url: str, description: dict[str, Any]) -> None:
        with chromium(folder / "profile") as browser:
            browser.open(f"{url}/docs")
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


async def test_the_page_shows_every_operation_and_asks_nobody_else(tmp_path):
    def act(browser, _url, description, _sandbox):
        shown = {
            (
                block.get_attribute("class").split("opblock-")[1].split()[0],
                block.find_element(By.CSS_SELECTOR, "[data-path]").get_attribute("data-path"),
            )
            for block in browser.all(".opblock")
        }
        assert shown == {(method, path) for path, item in description["paths"].items() for method in item}
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
