"""The wiring, as far as a scrape shows it; what it does for callers is tested end to end."""

import asyncio
import re
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from campaign_gateway.admin.probes import Part
from campaign_gateway.app import running
from campaign_gateway.app.readiness import Readiness
from campaign_gateway.app.status import Census, show_changes
from campaign_gateway.contract.listing import STATUSES, Channel
from campaign_gateway.policy.changes import ChangeType
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.settings import SettingsError, read_tree
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.web.fast import FastConnection
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.server import Connection
from tests.support.builders import NOW, stamp
from tests.support.doubles import SUPPORT
from tests.support.gateway import ROOT
from tests.support.tls import Authority


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


@pytest.mark.parametrize(("is_wanted", "kind"), [(True, FastConnection), (False, Connection)])
async def test_the_fast_road_is_there_unless_it_is_switched_off(
    tree: dict[str, Any], *, is_wanted: bool, kind: type[Connection]
) -> None:
    async with running(read_tree({**tree, "hot_path": is_wanted})) as gateway:
        reader, writer = await asyncio.open_connection(gateway.listen.host, gateway.listen.port)
        writer.write(b"GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"404"
        assert gateway.sites[0]._runner.server is not None
        assert [type(made) for made in gateway.sites[0]._runner.server.connections] == [kind]
        writer.close()


async def test_what_leaves_the_memory_is_forgotten_by_the_rendered_hits(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[MemoryStore] = []

    def make(*arguments: Any) -> MemoryStore:
        made.append(MemoryStore(*arguments))
        return made[-1]

    monkeypatch.setattr("campaign_gateway.app.stores.MemoryStore", make)
    forgotten: list[str | None] = []
    monkeypatch.setattr(RenderedHits, "follow", lambda _, key: forgotten.append(key))
    async with running(read_tree(tree)):
        made[0].clear()
    assert forgotten == [None]


async def test_a_key_that_cannot_sign_ends_the_start(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise ValueError("not today")

    monkeypatch.setattr("campaign_gateway.upstream.signer._sign", fail)
    with pytest.raises(SettingsError, match=r"credentials\.main: cannot sign: not today"):
        async with running(read_tree(tree)):
            pass


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_callers_connection_stays_open_as_long_as_is_set(tree: dict[str, Any], *, is_fast: bool) -> None:
    async with running(read_tree({**tree, "hot_path": is_fast, "keepalive": "100s"})) as gateway:
        server = gateway.sites[0]._runner.server
        assert server is not None
        assert server().keepalive_timeout == 100


async def test_a_metric_says_until_when_what_is_in_use_of_certificates_is_good(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    async def seen() -> dict[str, float]:
        async with session.get(f"http://{gateway.admin_listen}/metrics") as answer:
            page = await answer.text()
        rows = re.findall(r'certificate_expiry_timestamp_seconds\{setting="([^"]+)"\} (\S+)', page)
        return {key: (float(value) - now) / 86_400 for key, value in rows}

    def authority(days: int, *, beside: int) -> str:
        made = [Authority(tmp_path, f"{end}", (-timedelta(1), timedelta(end))).file for end in (days, beside)]
        return "".join(path.read_text() for path in made)

    authorities, client = Authority(tmp_path, "authority"), tmp_path / "client.pem"
    platform, redis = tmp_path / "platform.pem", tmp_path / "redis.pem"
    for path in (platform, redis):
        path.write_text(authority(10, beside=30))
    chain = [authorities.issue(f"{days}", good=(-timedelta(1), timedelta(days))) for days in (20, 5)]
    client.write_text("".join(row.cert_file.read_text() for row in chain))
    tls = {"ca_file": str(redis), "cert_file": str(client), "key_file": str(chain[0].key_file)}
    cache, now = {"url": "rediss://127.0.0.1:1", "tls": tls}, time.time()
    settings = read_tree({**tree, "cache": cache, "platform": {**tree["platform"], "ca_file": str(platform)}})
    async with running(settings) as gateway, aiohttp.ClientSession() as session:
        before = {"platform.ca_file": 30.0, "cache.tls.ca_file": 30.0, "cache.tls.cert_file": 5.0}
        assert await seen() == pytest.approx(before, abs=0.1)
        for path in (platform, redis):
            path.write_text(authority(40, beside=60))
        client.write_text("no certificate")
        assert await seen() == pytest.approx({**before, "cache.tls.ca_file": 60.0}, abs=0.1)


@pytest.mark.parametrize(("docs", "status"), [(True, 200), (False, 404)])
async def test_the_description_is_there_unless_it_is_switched_off(
    tree: dict[str, Any], *, docs: bool, status: int
) -> None:
    async with running(read_tree({**tree, "docs": docs})) as gateway, aiohttp.ClientSession() as session:
        for path in ("docs", "openapi.json"):
            async with session.get(f"http://{gateway.listen}/{path}") as answer:
                assert answer.status == status


async def test_draining_ends_what_was_authorised_before(tree: dict[str, Any]) -> None:
    async with running(read_tree({**tree, "shutdown": {"drain": "0ms"}})) as gateway:
        before = gateway.api.epoch.number
        await gateway.drain("the test")
        assert gateway.api.epoch.number > before


@pytest.mark.parametrize(("share", "swept"), [(0, set()), (0.5, {"sales", "support"})])
async def test_without_a_share_no_list_is_polled(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, share: float, swept: set[str]
) -> None:
    looked = set()

    def look(sweeper: Sweeper) -> float:
        looked.add(sweeper._stream.alias)
        return 1.0

    monkeypatch.setattr(Sweeper, "look_once", look)
    async with running(read_tree({**tree, "sweep": {"share": share}})):
        for _ in range(10):
            await asyncio.sleep(0)
        assert looked == swept


async def test_background_work_that_fails_shows_in_readyz_and_in_a_metric(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_sweeper: object) -> None:
        raise LookupError("planted")

    monkeypatch.setattr("campaign_gateway.proxy.sweep.leader.Sweeper.look_once", fail)
    async with running(read_tree(tree)) as gateway, aiohttp.ClientSession() as session:
        url = f"http://{gateway.admin_listen}"
        part: dict[str, str] = {"status": "ok"}
        async with asyncio.timeout(10):
            while part["status"] == "ok":
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200, "it serves all the same"
                    part = (await answer.json())["parts"]["tasks"]
        assert part["status"] == "degraded"
        assert "sweep support (LookupError)" in part["reason"]
        async with session.get(f"{url}/metrics") as answer:
            assert 'campaign_gateway_task_failures_total{task="sweep support"} ' in await answer.text()


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


async def test_each_stream_shows_its_campaigns_and_changes_from_the_start(tree: dict[str, Any]) -> None:
    async with (
        running(read_tree(tree)) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"http://{gateway.admin_listen}/metrics") as response,
    ):
        page = await response.text()
    rows = re.findall(
        r"^campaign_gateway_(campaigns|campaign_changes_total|subscribers){(.*)} 0\.0$", page, re.MULTILINE
    )
    kinds = Counter((name, dict(re.findall(r'(\w+)="([^"]*)"', labels))["stream"]) for name, labels in rows)
    states, types = len(Channel) * (len(STATUSES) + 1), len(ChangeType)
    for stream in ("support", "sales"):
        assert kinds["campaigns", stream] == states
        assert kinds["campaign_changes_total", stream] == types
        assert kinds["subscribers", stream] == 1


async def test_campaigns_are_counted_by_channel_and_documented_status() -> None:
    index = LocalIndex(Epoch(), time.time)
    census = Census(index, "identity-1")
    row = IndexedCampaign(Channel.VOICE, "a", "a", 0.0, has_changed=False, status="Ready")
    rows = {"c1": row, "c2": replace(row, status="Rerun"), "c3": replace(row, status=None)}
    await index.publish("identity-1", IndexState(number=1), {**rows, "c4": replace(row, is_listed=False)})
    assert [census.count(Channel.VOICE, status) for status in ("Ready", "other", "Active")] == [1, 2, 0]
    await index.publish("identity-1", IndexState(number=2), {"c2": replace(row, channel=Channel.SMS)})
    assert (census.count(Channel.VOICE, "other"), census.count(Channel.SMS, "Ready")) == (1, 1)


async def test_before_redis_is_seen_each_worker_of_each_replica_counts_as_a_sharer(tree: dict[str, Any]) -> None:
    tree |= {"workers": 4, "cache": {"url": "redis://127.0.0.1:1", "replicas": 2}}
    assert await gauge_of(tree, "budget_replicas") == {"acc-1": "8.0", "acc-2": "8.0"}


async def test_the_end_leaves_no_task_behind_with_redis_or_without(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from campaign_gateway.store.redis.batch_loader import BatchLoader

    closed = []

    async def close(loader: BatchLoader) -> None:
        closed.append(loader)
        await ended(loader)

    ended = BatchLoader.close
    monkeypatch.setattr(BatchLoader, "close", close)
    before = asyncio.all_tasks()
    for cache, loaders in (({}, 0), ({"url": "redis://127.0.0.1:1"}, 1)):
        async with running(read_tree({**tree, "cache": cache})):
            pass
        assert asyncio.all_tasks() == before
        assert len(closed) == loaders


HEAVY = {
    "redis",
    "joserfc",
    "multiprocessing",
    "campaign_gateway.sandbox",
    "campaign_gateway.demo",
    "campaign_gateway.supervisor",
    "campaign_gateway.web.docs.openapi",
}
"""What a gateway without Redis has no use for before its first call; each takes a good part of a cold start."""


def test_serving_with_plain_settings_imports_nothing_heavy(tree: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    with config.open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    # As `serve` does it, but stopped as soon as it is up.
    program = textwrap.dedent(f"""
        import os, signal, sys
        from campaign_gateway import cli
        from campaign_gateway.app import gateway as app

        class Up(app.Gateway):
            def __init__(self, **rest):
                print(*sorted(sys.modules), flush=True)
                os._exit(0)

        app.Gateway = Up
        cli.main(["serve", "--config", {str(config)!r}])
    """)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {
        "campaign_gateway.app",
        "campaign_gateway.web.server",
        "campaign_gateway.store.local.index",
        "uvloop",
    } <= imported
    assert HEAVY & imported == set()


def test_a_part_is_so_since_its_status_was_first_seen_whoever_asks():
    now, parts = 0.0, {"store": Part("ok"), "sweep": Part("degraded", "starved")}
    readiness = Readiness(lambda: dict(parts), lambda: now)
    assert readiness() == {"store": Part("ok"), "sweep": Part("degraded", "starved", "1970-01-01T00:00:00Z")}
    now, parts["store"], parts["sweep"] = 61.0, Part("degraded", "timeout"), Part("degraded", "unsorted")
    readiness()
    now = 90.0
    assert readiness() == {
        "store": Part("degraded", "timeout", "1970-01-01T00:01:01Z"),
        "sweep": Part("degraded", "unsorted", "1970-01-01T00:00:00Z"),
    }
    parts["store"] = Part("ok")
    readiness()
    parts["store"] = Part("degraded", "timeout")
    assert readiness()["store"].since == "1970-01-01T00:01:30Z"


class Shown:
    """A stream's account as metrics show it."""

    def __init__(self) -> None:
        self.metrics, self.index = Metrics(CollectorRegistry()), LocalIndex(Epoch(), lambda: NOW)
        self.feed = Feed(LocalChanges(lambda: NOW), self.index, lambda: NOW, Tasks(), self.metrics, {})
        show_changes(self.metrics, SUPPORT, self.index, self.feed)

    async def values(self, name: str) -> dict[tuple[str, ...], float]:
        """By the values of the labels, but the stream's."""
        samples = [sample for family in await self.metrics.collect() for sample in family.samples]
        return {
            tuple(value for label, value in sample.labels.items() if label != "stream"): sample.value
            for sample in samples
            if sample.name == f"campaign_gateway_{name}" and sample.labels["stream"] == SUPPORT.alias
        }

    async def poll(self, **statuses: str | None) -> None:
        """Lists that show these campaigns in a status; None for one that is gone."""
        rows = {
            id_: IndexedCampaign(
                Channel.SMS if id_.startswith("sms") else Channel.VOICE,
                stamp(NOW),
                stamp(NOW),
                NOW,
                has_changed=False,
                is_listed=status is not None,
                status=status,
            )
            for id_, status in statuses.items()
        }
        number = self.index.snapshot(SUPPORT.identity).state.number + 1
        polls = {channel: Poll(NOW, full_scan_at=1.0) for channel in Channel}
        assert await self.index.publish(SUPPORT.identity, IndexState(polls, number=number), rows)


async def test_the_account_is_shown_at_zero_before_anything_is_known_of_it() -> None:
    shown = Shown()
    campaigns = {(channel.value, status): 0.0 for channel in Channel for status in (*STATUSES, "other")}
    assert len(campaigns) == 18
    assert await shown.values("campaigns") == campaigns
    assert await shown.values("subscribers") == {(): 0.0}
    assert await shown.values("campaign_changes_total") == {(type_.value,): 0.0 for type_ in ChangeType}
    assert await shown.values("change_delay_seconds_count") == {(): 0.0}


async def test_campaigns_are_counted_by_their_state_in_the_newest_index() -> None:
    shown = Shown()
    await shown.poll(voice1="Active", voice2="Active", sms1="Active", sms2="Archiving", sms3="", voice3="Ready")
    seen = {labels: count for labels, count in (await shown.values("campaigns")).items() if count}
    assert seen == {("voice", "Active"): 2, ("voice", "Ready"): 1, ("sms", "Active"): 1, ("sms", "other"): 2}
    await shown.poll(voice1="Completed", voice2=None, sms2="Ready")
    seen = {labels: count for labels, count in (await shown.values("campaigns")).items() if count}
    assert seen == {
        ("voice", "Completed"): 1,
        ("voice", "Ready"): 1,
        ("sms", "Active"): 1,
        ("sms", "Ready"): 1,
        ("sms", "other"): 1,
    }


async def test_who_listens_is_shown_for_as_long_as_that_lasts() -> None:
    shown = Shown()
    with shown.feed.listening(SUPPORT.identity), shown.feed.listening(SUPPORT.identity):
        assert await shown.values("subscribers") == {(): 2.0}
    assert await shown.values("subscribers") == {(): 0.0}
