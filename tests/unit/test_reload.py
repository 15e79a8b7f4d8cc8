"""Settings that are read again while the gateway serves: when, whether as a whole, and what each section does then."""

import asyncio
import copy
import hashlib
import io
import logging
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from ruamel.yaml import YAML

from campaign_gateway.app import Gateway, running, webhooks
from campaign_gateway.app.build import plan_gateway
from campaign_gateway.app.live import Live
from campaign_gateway.app.reload import Reloader
from campaign_gateway.app.status import settings_part
from campaign_gateway.policy.backoff import Backoff
from campaign_gateway.proxy import tasks
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.settings import Mistake, Settings, SettingsError, SettingsFile, differing, read_tree
from campaign_gateway.settings.reload import SECTIONS
from campaign_gateway.upstream.signer import Secret
from tests.support.gateway import ROOT
from tests.support.tls import Authority
from tests.support.waiting import until

KEY = "cgk_reporting"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    secret = tmp_path / "client-secret"
    secret.write_text("an invented secret of some length, good for nothing at all")
    row = {"stream_id": "st-1", "account_id": "acc-1", "credential": "main"}
    return {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "platform": {"url": "https://campaigns.example"},
        "credentials": {"main": {"client_id": "cs-1", "client_secret_file": str(secret)}},
        "streams": {"support": row},
        "clients": {"reporting": {"key_sha256": HASH, "streams": ["support"]}},
        "shutdown": {"drain": "0ms", "grace": "1s"},
    }


def with_(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The tree with other values, by their keys with dots."""
    tree = copy.deepcopy(tree)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = tree
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return tree


# What takes what.


def test_each_section_says_what_it_takes() -> None:
    assert list(SECTIONS) == list(Settings.model_fields)


def test_the_readme_says_the_same() -> None:
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (takes effect at once|needs a restart) \| (.+) \|$", text, re.MULTILINE)
    said = {how: re.findall(r"`(\w+)`", names) for how, names in rows}
    assert said == {
        how: [name for name, taken in SECTIONS.items() if taken == takes]
        for how, takes in (("takes effect at once", "reload"), ("needs a restart", "restart"))
    }


@pytest.mark.parametrize(
    ("changes", "restart", "reload"),
    [
        ({}, [], []),
        ({"cache.url": "redis://10.1.2.3:6379", "cache.tls": {}}, ["cache.url", "cache.tls"], []),
        ({"platform.timeout": "3s", "workers": 2}, ["workers", "platform.timeout"], []),
        ({"streams.sales": {}, "credentials.main.jti": True}, ["credentials.main.jti", "streams.sales"], []),
        ({"listen": "127.0.0.1:1"}, ["listen"], []),
        ({"clients.reporting.rate": "5/s", "log.level": "error"}, [], ["clients.reporting.rate", "log.level"]),
        ({"freshness.status": {"Paused": {"max": "2s"}}}, [], ["freshness.status.Paused"]),
        ({"budgets.acc-1": {"calls": 30}, "pause.max": "1m"}, [], ["budgets.acc-1", "pause.max"]),
        ({"docs": False, "sweep.share": 0}, ["docs"], ["sweep.share"]),
    ],
)
def test_what_differs_is_named(tree: dict[str, Any], changes: Any, restart: list[str], reload: list[str]) -> None:
    def settings(tree: dict[str, Any]) -> Settings:
        tree["streams"] = {
            name: row or {**tree["streams"]["support"], "stream_id": name} for name, row in tree["streams"].items()
        }
        return Settings.model_validate(tree)

    old, new = settings(copy.deepcopy(tree)), settings(with_(tree, changes))
    assert (differing(old, new, "restart"), differing(old, new, "reload")) == (restart, reload)


# When, and whether as a whole.


@dataclass
class File:
    """In the place of `SettingsFile`: what is in it, and what reading it comes to."""

    tree: dict[str, Any]
    text: str | None = "first"
    mistakes: list[Mistake] = field(default_factory=list)
    reads: int = 0

    @property
    def read_first(self) -> bytes | None:
        return self.digest()

    def digest(self) -> bytes | None:
        return None if self.text is None else self.text.encode()

    def load(self) -> Settings:
        self.reads += 1
        if self.text is None:
            raise SettingsError([Mistake("settings", "cannot be read", "name another file")])
        if self.mistakes:
            raise SettingsError(self.mistakes)
        return Settings.model_validate(self.tree)

    def write(self, text: str, changes: dict[str, Any] | None = None, *mistakes: Mistake) -> None:
        self.text, self.tree, self.mistakes = text, with_(self.tree, changes or {}), list(mistakes)


@dataclass
class Watched:
    """A reloader, its file, and the settings that it has had used."""

    file: File
    adopted: list[Settings] = field(default_factory=list)
    now: float = 1_000.0

    def __post_init__(self) -> None:
        settings = Settings.model_validate(self.file.tree)
        self.reloader = Reloader(settings, cast("SettingsFile", self.file), self.adopted.append, lambda: self.now)

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.reloader.look()


@pytest.fixture
def watched(tree: dict[str, Any], caplog: pytest.LogCaptureFixture) -> Watched:
    caplog.set_level(logging.INFO)
    return Watched(File(tree))


async def test_a_file_that_stays_is_not_read_again(watched: Watched) -> None:
    await watched.look(5)
    assert (watched.file.reads, watched.reloader.generation) == (0, 1)


async def test_a_changed_file_is_used_once_it_has_stayed_for_a_look(watched: Watched, caplog: Any) -> None:
    watched.file.write("half", {"clients": {}})
    await watched.look(1)
    watched.file.write("whole", {"clients.sales": {"key_sha256": "0" * 64, "streams": ["support"]}, "log.slow": "2s"})
    await watched.look(1)
    assert watched.adopted == []
    watched.now = 1_002.0
    await watched.look(5)
    assert [settings.log.slow for settings in watched.adopted] == [2.0]
    assert (watched.reloader.generation, watched.reloader.read_at, watched.file.reads) == (2, 1_002.0, 1)
    assert settings_part(watched.reloader).reason == "generation 2, read at 1970-01-01T00:16:42Z"
    assert caplog.messages == [
        "settings reloaded (the file has changed): generation 2 is in use: clients.reporting, clients.sales, log.slow"
    ]


async def test_a_file_with_other_words_for_the_same_is_no_new_generation(watched: Watched, caplog: Any) -> None:
    watched.now = 1_002.0
    watched.file.write("the same with a comment")
    await watched.look()
    assert (watched.adopted, watched.reloader.generation, watched.reloader.read_at) == ([], 1, 1_002.0)
    assert len(caplog.messages) == 1


@pytest.mark.drill(
    "settings that cannot be used, while it serves",
    planted="a mistake, a file that is gone, a key that takes a restart beside one that does not",
    seen="nothing changes; one log line, `/readyz` and a metric name each mistake until the file is good",
)
@pytest.mark.parametrize("way", ["mistake", "gone", "restart"])
async def test_what_cannot_be_used_changes_nothing_and_is_told_once(watched: Watched, way: str, caplog: Any) -> None:
    good, watched.now = watched.file.tree, 1_002.0
    match way:
        case "mistake":
            said = [Mistake(f"clients.{name}.streams", "no stream is named x", "write support") for name in "abcd"]
            watched.file.write("bad", {"log.slow": "2s"}, *said)
        case "gone":
            said, watched.file.text = [Mistake("settings", "cannot be read", "name another file")], None
        case _:
            said = [Mistake("workers", "needs a restart", "restart, or take the change back")]
            watched.file.write("more", {"log.slow": "2s", "workers": 2})
    await watched.look(5)
    reloader = watched.reloader
    assert (watched.adopted, reloader.generation, reloader.read_at, watched.file.reads) == ([], 1, 1_000.0, 1)
    whole = "; ".join(map(str, said))
    shown = whole if len(said) == 1 else "; ".join([*map(str, said[:3]), "1 more"])
    part = settings_part(reloader)
    assert (part.status, part.reason) == ("degraded", f"refused, generation 1 stays in use: {shown}")
    assert caplog.messages == [f"settings refused (the file has changed): generation 1 stays in use: {whole}"]
    await reloader.look("SIGHUP")
    assert caplog.messages[1:] == [f"settings refused (SIGHUP): generation 1 stays in use: {whole}"]
    watched.file.tree = good
    watched.file.write("first")
    await watched.look()
    assert (reloader.fault, reloader.generation, settings_part(reloader).status) == (None, 1, "ok")


async def test_what_was_refused_is_judged_again_now_and_then(watched: Watched, caplog: Any) -> None:
    fault = Mistake("credentials.main.client_secret_file", "cannot be read", "name a file that this user may read")
    watched.file.write("second", {"log.slow": "2s"}, fault)
    await watched.look(2 + 3 * 30)
    assert (watched.file.reads, len(caplog.messages)) == (4, 1)
    watched.file.mistakes = []
    await watched.look(31)
    assert (watched.reloader.generation, watched.file.reads) == (2, 5)
    assert caplog.messages[1:] == ["settings reloaded (looked at again): generation 2 is in use: log.slow"]
    await watched.look(60)
    assert watched.file.reads == 5


async def test_who_asks_has_them_read_at_once(watched: Watched, caplog: Any) -> None:
    watched.file.write("second", {"log.slow": "2s"})
    await watched.reloader.look("SIGHUP")
    await watched.look()
    assert (len(watched.adopted), watched.file.reads) == (1, 1)
    await watched.reloader.look("SIGHUP")
    assert (len(watched.adopted), watched.file.reads) == (1, 2)
    assert caplog.messages[-1] == "settings read again (SIGHUP): nothing differs, generation 2 stays in use"


# What each section does then.


@asynccontextmanager
async def serving(tree: dict[str, Any], folder: Path) -> AsyncIterator[tuple[Gateway, "Page"]]:
    page = Page(folder / "gateway.yaml")
    page.write(tree)
    async with (
        running(read_tree(tree), file=SettingsFile(page.path, {})) as gateway,
        aiohttp.ClientSession() as session,
    ):
        page.gateway, page.session = gateway, session
        yield gateway, page


class Page:
    """The settings' file of a gateway, and what operators see of it."""

    gateway: Gateway
    session: aiohttp.ClientSession

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, tree: dict[str, Any]) -> None:
        text = io.StringIO()
        YAML(typ="safe", pure=True).dump(tree, text)
        self.path.write_text(text.getvalue())

    async def reload(self, tree: dict[str, Any]) -> None:
        """Has these settings used."""
        generation = await self.metric("settings_generation")
        self.write(tree)
        self.gateway.reload()
        async with asyncio.timeout(30):
            while await self.metric("settings_generation") == generation:
                assert await self.metric("config_last_reload_successful") == 1
                await asyncio.sleep(0.01)

    async def metric(self, name: str) -> float | None:
        """The first sample whose name and labels begin so."""
        found = re.search(rf"^campaign_gateway_{re.escape(name)}.* (\S+)$", await self.metrics(), re.MULTILINE)
        return None if found is None else float(found[1])

    async def metrics(self) -> str:
        async with self.session.get(f"http://{self.gateway.admin_listen}/metrics") as answer:
            return await answer.text()

    async def status(self, key: str | None = KEY) -> int:
        """That of a read which is answered without the platform."""
        fields = {"Cache-Control": "only-if-cached"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        url = f"http://{self.gateway.listen}/v1/campaigns/c-1"
        async with self.session.get(url, headers=fields) as answer:
            return answer.status


async def test_clients_come_and_go(tree: dict[str, Any], tmp_path: Path) -> None:
    async with serving(tree, tmp_path) as (_, page):
        assert [await page.status(), await page.status("cgk_new")] == [504, 401]
        used = await page.metric('client_key_last_used_timestamp_seconds{client="reporting"')
        assert used
        other = hashlib.sha256(b"cgk_new").hexdigest()
        rows = [{"sha256": HASH, "note": "old", "expires": "2999-01-01"}, {"sha256": other, "note": "new"}]
        await page.reload(with_(tree, {"clients.reporting": {"keys": rows, "streams": ["support"]}}))
        assert await page.metric('client_key_last_used_timestamp_seconds{client="reporting",key="old"') == used
        assert await page.metric('client_key_last_used_timestamp_seconds{client="reporting",key="new"') == 0
        assert await page.metric("client_key_expiry_timestamp_seconds")
        assert [await page.status(), await page.status("cgk_new")] == [504, 504]
        await page.reload(with_(tree, {"clients.reporting": {"keys": rows[1:], "streams": ["support"]}}))
        assert [await page.status(), await page.status("cgk_new")] == [401, 504]
        assert await page.metric("client_key_expiry_timestamp_seconds") is None
        await page.reload(with_(tree, {"clients": {}}))
        assert await page.status(None) == 504
        await page.reload(tree)
        assert await page.status(None) == 401


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> list[Live]:
    """What was made of `Live`."""
    made: list[Live] = []

    def make(*parts: Any) -> Live:
        made.append(Live(*parts))
        return made[-1]

    monkeypatch.setattr("campaign_gateway.app.gateway.Live", make)
    return made


async def test_budgets_and_pauses_follow(tree: dict[str, Any], tmp_path: Path, live: list[Live]) -> None:
    async with serving(tree, tmp_path) as (_, page):
        assert await page.metric("budget_calls") == await page.metric("budget_capacity") == 60
        client = {"key_sha256": "0" * 64, "streams": ["support"]}
        changes = {"budgets.acc-1": {"calls": 30, "window": "30s"}, "pause.max": "7s", "clients.second": client}
        await page.reload(with_(tree, changes))
        assert await page.metric("budget_calls") == await page.metric("budget_capacity") == 30
        account = live[0].story.budget._queue("acc-1").account
        assert (account.allowance.longest_pause, account.allowance.clients, account.allowance.window) == (7.0, 2, 30.0)
        assert account.promises.allowance is account._own.allowance is account.allowance


async def test_webhooks_come_and_go(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "webhook-secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==")
    rows = {
        name: {"url": f"http://127.0.0.1:9/{name}", "secret_file": str(tmp_path / "webhook-secret")}
        for name in ("crm", "mail")
    }

    async def shown(page: Page) -> list[bool]:
        return [await page.metric(f'webhook_behind_seconds{{webhook="{name}"') is not None for name in rows]

    async with serving(tree, tmp_path) as (_, page):
        assert await shown(page) == [False, False]
        for names in (["crm"], ["crm", "mail"], ["mail"], []):
            await page.reload(with_(tree, {"webhooks": {name: rows[name] for name in names}}))
            async with asyncio.timeout(20):
                while await shown(page) != [name in names for name in rows]:
                    await asyncio.sleep(0.01)
            url = f"http://{page.gateway.admin_listen}/explain/support/c-1"
            async with page.session.get(url) as answer:
                assert [row["name"] for row in (await answer.json())["webhooks"]] == names


async def test_certificates_of_webhooks_are_shown_while_they_are_named(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "webhook-secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==")
    files = {"secret_file": str(tmp_path / "webhook-secret"), "ca_file": str(Authority(tmp_path, "inside").file)}
    series = 'certificate_expiry_timestamp_seconds{setting="webhooks.crm.ca_file"'
    async with serving(tree, tmp_path) as (_, page):
        for webhooks_ in ({"crm": {"url": "https://crm.example.com", **files}}, {}):
            await page.reload(with_(tree, {"webhooks": webhooks_}))
            assert (await page.metric(series) is not None) is bool(webhooks_)


async def test_webhooks_go_on_while_the_secret_of_another_cannot_be_read(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RESTART_WAITS", Backoff(first=0.01, most=0.01))
    secret, failures = tmp_path / "webhook-secret", 3
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==")
    rows = {name: {"url": f"http://127.0.0.1:9/{name}", "secret_file": str(secret)} for name in ("crm", "mail")}

    def read(path: Path) -> Secret:
        # After the settings were checked, as when it is replaced just then.
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise PermissionError(13, "Permission denied", str(path))
        return Secret(path)

    async with serving({**tree, "webhooks": {"crm": rows["crm"]}}, tmp_path) as (_, page):
        monkeypatch.setattr(webhooks, "Secret", read)
        seen = set[frozenset[str]]()
        await page.reload(with_(tree, {"webhooks": {"mail": rows["mail"]}}))
        async with asyncio.timeout(20):
            while {"mail"} not in seen:
                found = re.findall(r'webhook_behind_seconds{webhook="(\w+)"', await page.metrics())
                seen.add(frozenset(found))
                await asyncio.sleep(0.001)
        assert seen <= {frozenset({"crm"}), frozenset({"mail"})}, "one of them at any time"
        assert failures < 0


def test_many_streams_and_clients_are_looked_at_once_each(tree: dict[str, Any]) -> None:
    row = tree["streams"]["support"]
    streams = {
        f"s{number}": {**row, "stream_id": f"st-{number}", "account_id": f"acc-{number}"} for number in range(50)
    }
    clients = {
        f"c{number}": {"key_sha256": f"{number:064x}", "streams": ["s0", f"s{1 + number % 49}"]}
        for number in range(400)
    }
    settings = read_tree({**tree, "streams": streams, "clients": clients})
    plan, lines = plan_gateway(settings), 0

    def count(_frame: object, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        plan.adopt(settings)
        allowed = {account: plan.allowance(account).clients for account in plan.accounts}
    finally:
        sys.settrace(before)
    assert (allowed["acc-0"], allowed["acc-1"], allowed["acc-49"]) == (400, 9, 8)
    assert lines < 20 * (50 + 400)


async def test_freshness_follows(tree: dict[str, Any], tmp_path: Path, live: list[Live]) -> None:
    async with serving(tree, tmp_path) as (_, page):
        (made,) = live
        hits = made.front.hits.of("stream", "campaign")
        hits[b"c-1"] = cast("Any", None)
        await page.reload(with_(tree, {"log.slow": "2s"}))
        assert hits, "nothing that hits stand by has changed"
        changes = {"stale_while_revalidate": "7s", "stale_if_error": "9s", "read_your_writes": "3s", "max": "8s"}
        await page.reload(with_(tree, {"freshness": changes}))
        assert not hits
        assert made.front.bounds.cache_control(1) == "private, max-age=1, stale-while-revalidate=7, stale-if-error=8"
        assert made.story.exchange._assessor.rules == made.runtime.plan.freshness
        assert (made.runtime.plan.freshness.stale_if_error, made.story.writers.seconds) == (9.0, 3.0)
        assert await page.metric("signal_bound_seconds") == 8


async def test_the_sweep_follows(
    tree: dict[str, Any], tmp_path: Path, live: list[Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[float, float | None]] = []

    def look(sweeper: Sweeper) -> float:
        looked.append((sweeper._config.capacity().share, sweeper._lists.config.lag))
        return 0.05

    monkeypatch.setattr(Sweeper, "look_once", look)
    async with serving(with_(tree, {"sweep.share": 0}), tmp_path) as (_, page):
        assert not looked
        await page.reload(with_(tree, {"sweep": {"share": 0.25, "lag": "3s"}}))
        await until(lambda: looked)
        assert looked[0] == (0.25, 3.0)
        assert live[0].story.exchange._rows.is_polled
        await page.reload(with_(tree, {"sweep.share": 0}))
        (sweeper,) = live[0].sweepers
        await until(lambda: not sweeper.is_leading)


async def test_the_log_follows(tree: dict[str, Any], tmp_path: Path, live: list[Live]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        async with serving(tree, tmp_path) as (_, page):
            await page.reload(with_(tree, {"log": {"level": "error", "access": "off"}}))
            assert root.level == logging.ERROR
            assert not live[0].front.lines.stands_for(500, 10.0, is_hit=False)
            await page.reload(tree)
            assert root.level == logging.INFO
            assert live[0].front.lines.stands_for(500, 10.0, is_hit=False)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
