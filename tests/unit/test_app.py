"""The wiring, as far as a scrape shows it; what it does for callers is tested end to end."""

import re
from pathlib import Path

import aiohttp

from service.app import running
from service.settings import read_tree


async def test_each_account_shows_the_size_of_its_budget(tmp_path: Path) -> None:
    secret = tmp_path / "client-secret"
    secret.write_text("an invented secret of some length, good for nothing at all")
    row = {"stream_id": "st-1", "credential": "main"}
    tree = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "platform": {"url": "https://campaigns.example"},
        "credentials": {"main": {"client_id": "cs-1", "client_secret_file": str(secret)}},
        "streams": {
            "support": {**row, "account_id": "acc-1", "default": True},
            "sales": {**row, "stream_id": "st-2", "account_id": "acc-2"},
        },
        "budgets": {"default": {"calls": 60, "window": "60s"}, "acc-2": {"calls": 24, "window": "4s"}},
    }
    async with (
        running(read_tree(tree)) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"http://{gateway.admin_listen}/metrics") as response,
    ):
        page = await response.text()
    found = dict(re.findall(r'^campaign_gateway_budget_calls{account="(.+)"} (\S+)$', page, re.MULTILINE))
    assert found == {"acc-1": "60.0", "acc-2": "24.0"}
