"""The wiring, as far as a scrape shows it; what it does for callers is tested end to end."""

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.app import running
from service.settings import read_tree


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    secret = tmp_path / "client-secret"
    secret.write_text("an invented secret of some length, good for nothing at all")
    row = {"stream_id": "st-1", "credential": "main"}
    return {
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


async def gauge_of(tree: dict[str, Any], name: str) -> dict[str, str]:
    """A gauge's values by account."""
    async with (
        running(read_tree(tree)) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"http://{gateway.admin_listen}/metrics") as response,
    ):
        page = await response.text()
    return dict(re.findall(rf'^campaign_gateway_{name}{{account="(.+)"}} (\S+)$', page, re.MULTILINE))


async def test_each_account_shows_the_size_of_its_budget(tree: dict[str, Any]) -> None:
    assert await gauge_of(tree, "budget_calls") == {"acc-1": "60.0", "acc-2": "24.0"}


async def test_before_redis_is_seen_each_worker_of_each_replica_counts_as_a_sharer(tree: dict[str, Any]) -> None:
    tree |= {"workers": 4, "cache": {"url": "redis://127.0.0.1:1", "replicas": 2}}
    assert await gauge_of(tree, "budget_replicas") == {"acc-1": "8.0", "acc-2": "8.0"}
