"""A real browser: what the page shows in it, what it sends, and to whom."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1200,1600"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nor does the browser itself reach anybody
)
SECONDS = 30
"""For any one thing to appear."""


class Browser:
    """A browser on the page, and the few things that a reader of it does and sees."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._wait = WebDriverWait(driver, SECONDS)

    def open(self, url: str, first: str) -> None:
        """Opens the page, and waits for what it shows first."""
        self.driver.get(url)
        self.see(first)

    def see(self, selector: str) -> WebElement:
        return self._wait.until(expected_conditions.visibility_of_element_located((By.CSS_SELECTOR, selector)))

    def see_text(self, selector: str, text: str) -> None:
        self._wait.until(expected_conditions.text_to_be_present_in_element((By.CSS_SELECTOR, selector), text))

    def until(self, holds: Callable[[], object]) -> object:
        """What `holds` returns, once that is something true."""
        return self._wait.until(lambda _: holds())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self._wait.until(expected_conditions.element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

    def write(self, selector: str, text: str) -> None:
        field = self.see(selector)
        self.driver.execute_script("arguments[0].select()", field)
        field.send_keys(text)

    def complaints(self) -> list[str]:
        """What the console says since last asked: errors, warnings, and what the policy kept from happening."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Every URL that the page has made the browser ask for; `chrome:` is what the browser's own first tab is made of."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
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
