"""Draws the pictures of the console in `docs/`: `python -m tests.browser.pictures` (Chromium is needed).

A gateway before the simulated platform, with some callers; the account is paused at the end of the run.
"""

import asyncio
import base64
import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.browser import Browser, chromium
from tests.support.gateway import ROOT, GatewayProcess, gateway_process, settings_for

NAMES = ("agent-desktop", "reporting", "console")
SECONDS = 200
"""Of traffic, for lines that show something."""
SIZES = {"light": (1280, 890, False), "dark": (1280, 890, False), "phone": (412, 1000, True)}


def draw(admin: str, folder: Path, profile: Path, screens: list[str]) -> None:
    with chromium(profile) as browser:
        for screen in screens:
            for name, (width, height, is_phone) in SIZES.items():
                if screen == "overview" or name == "light":
                    show(browser, f"{admin}/console#{screen}", name, width, height, is_phone=is_phone)
                    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                    target = folder / f"console-{name if screen == 'overview' else screen}.png"
                    target.write_bytes(base64.b64decode(taken["data"]))
                    sys.stdout.write(f"{target}: {target.stat().st_size / 1000:.0f} kB\n")


def show(browser: Browser, url: str, name: str, width: int, height: int, *, is_phone: bool) -> None:
    driver = browser.driver
    scheme = {"name": "prefers-color-scheme", "value": "dark" if name == "dark" else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    browser.open(url, "body[data-turn='2']")


async def use(gateway: GatewayProcess, sandbox: Sandbox) -> None:
    """Some minutes of a day: two callers, edits, a pause, and at the end a start, a purge and some new campaigns."""
    ids = [campaign.id for campaign in sandbox.campaigns.all()]

    async def send(path: str, **fields: Any) -> None:
        async with gateway.session.post(f"{gateway.url}/v1{path}", headers=_key("console"), **fields) as answer:
            assert answer.status in {200, 202}, await answer.text()

    for turn in range(SECONDS * 2):
        await gateway.get(ids[(turn * 7) % 19], **_key(NAMES[turn % 2]))
        if turn % 12 == 5:
            sandbox.campaigns.edit(ids[turn % 14], {"priority": turn})
        if turn == SECONDS // 2:
            sandbox.faults.add("limit-429-seconds", times=1, retry_after_seconds=8)
        if turn > SECONDS * 2 - 60 and turn % 8 == 0:
            await gateway.get(ids[turn - 200], **_key(NAMES[turn % 3]))
        await asyncio.sleep(0.5)
    await send(f"/campaigns/{ids[3]}/start?type={sandbox.campaigns.all()[3].kind}")
    await send("/purge", json={"campaigns": ids[4:10]})


def _key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def main(folder: Path, screens: list[str]) -> None:
    """All pictures into this folder."""
    clients = {
        name: {
            "key_sha256": hashlib.sha256(name.encode()).hexdigest(),
            "streams": ["support"],
            "scopes": ["read", "write", "purge"],
        }
        for name in NAMES
    }
    with TemporaryDirectory() as made:
        home = Path(made)
        async with (
            Sandbox(SandboxConfig(campaigns=300, latency_seconds=0.1)) as sandbox,
            gateway_process(settings_for(sandbox, home, clients=clients), home) as gateway,
        ):
            await use(gateway, sandbox)
            await asyncio.to_thread(draw, gateway.admin_url, folder, home / "profile", screens)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs", sys.argv[2:] or ["overview"]))
