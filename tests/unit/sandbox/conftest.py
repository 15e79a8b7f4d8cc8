import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from campaign_gateway.sandbox import seeds
from campaign_gateway.sandbox.campaigns import Campaign
from campaign_gateway.sandbox.operations import Family
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.requested import campaign_body

SAMPLES = Path(__file__).parents[2] / "samples"

# 2026-02-03T14:05:11.214Z
START = 1_770_127_511.214


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Reply:
    status: int
    body: bytes
    headers: Any

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.document["errors"][0]["msg"])


@dataclass
class Platform:
    """A running sandbox, its clock and a client with good credentials."""

    sandbox: Sandbox
    clock: Clock
    session: aiohttp.ClientSession

    def token(self, **claims: Any) -> str:
        config = self.sandbox.config
        return jwt.encode({"appId": config.client_id} | claims, config.secret, config.algorithm)

    def url(self, path: str, family: Family = Family.A) -> str:
        return f"{self.sandbox.url}{family}/{self.sandbox.config.stream_id}{path}"

    async def send(self, method: str, url: str, **options: Any) -> Reply:
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            return Reply(response.status, await response.read(), response.headers)

    async def call(
        self,
        method: str,
        path: str,
        *,
        family: Family = Family.A,
        headers: dict[str, str | None] | None = None,
        **query: str,
    ) -> Reply:
        return await self.write(method, path, None, family=family, headers=headers, **query)

    async def write(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        family: Family = Family.A,
        headers: dict[str, str | None] | None = None,
        **query: str,
    ) -> Reply:
        config = self.sandbox.config
        given = {"auth": self.token(), "iid": config.stream_id, "accountId": config.account_id} | (headers or {})
        sent = {key: value for key, value in given.items() if value is not None}
        params = {"accountId": config.account_id} | query
        options = {} if body is None else {"json": body}
        return await self.send(method, self.url(path, family), headers=sent, params=params, **options)

    async def get(self, campaign: Campaign | str, **options: Any) -> Reply:
        campaign_id = campaign if isinstance(campaign, str) else campaign.id
        return await self.call("GET", f"/campaign/{campaign_id}", **options)

    async def rows(self, **body: Any) -> Reply:
        return await self.write("POST", "/campaign/getAllCampaignDetails", {"type": "voice"} | body)

    async def control(self, method: str, path: str, body: Any = None) -> Reply:
        options = {} if body is None else {"json": body}
        return await self.send(method, f"{self.sandbox.url}/_sandbox{path}", **options)

    def made(self, form: str, **fields: Any) -> Campaign:
        """A campaign of a form, at rest: created long enough ago to be ready."""
        tenant = self.sandbox.tenants[self.sandbox.config.stream_id]
        dnc = tenant.contact_lists.by_name(seeds.DNC_LIST_NAME)
        drawn = seeds.campaign_fields(tenant.rng, form, f"A {form} one", dnc_list_id=dnc.id if dnc else "")
        campaign = tenant.campaigns.create(seeds.kind_of(form), drawn | fields)
        self.clock.advance(10)
        settled = tenant.campaigns.get(campaign.id)
        assert settled
        return settled


Start = Callable[..., Awaitable[Platform]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def start(clock: Clock) -> AsyncIterator[Start]:
    """Starts a sandbox with the settings given; it stops with the test."""
    async with AsyncExitStack() as stack:

        async def begin(**settings: Any) -> Platform:
            config = SandboxConfig(**settings)
            sandbox = await stack.enter_async_context(Sandbox(config, now=clock, monotonic=clock))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Platform(sandbox, clock, session)

        yield begin


@pytest.fixture
async def platform(start: Start) -> Platform:
    return await start()


@pytest.fixture
def sample() -> Callable[[str], Any]:
    return lambda name: json.loads((SAMPLES / name).read_text())


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """See `campaign_body`."""
    return campaign_body
