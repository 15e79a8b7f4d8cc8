"""The simulated platform, assembled: state, rules, faults and a server."""

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from campaign_gateway.sandbox import ids, seeds
from campaign_gateway.sandbox.auth import App, Authenticator
from campaign_gateway.sandbox.campaigns import CampaignStore
from campaign_gateway.sandbox.config import SandboxConfig, Stream
from campaign_gateway.sandbox.contacts import ContactListStore
from campaign_gateway.sandbox.control import PREFIX, Control
from campaign_gateway.sandbox.faults import Faults
from campaign_gateway.sandbox.journal import Journal
from campaign_gateway.sandbox.limit import SlidingWindow
from campaign_gateway.sandbox.listing import Lists
from campaign_gateway.sandbox.magic import MagicIds
from campaign_gateway.sandbox.server import Frontend
from campaign_gateway.sandbox.tenant import Tenant

__all__ = ["Sandbox", "SandboxConfig", "Stream"]

# Removing the faults has ended every wait, so what is left at the end ends at once or is stuck.
_SHUTDOWN_SECONDS = 2.0
# What listens on every address is reached from the same machine at these.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound


class Sandbox:
    """The simulated platform.

    `async with Sandbox(config) as sandbox:` serves until the block ends. The state is there from the constructor
    on and outlives the server, so that a test can prepare and judge it directly.

    Attributes:
        config: The settings.
        app: The JWT app; `app.secret = ...` rotates the secret.
        tenants: Every application by its stream id.
        limits: Every account's rate limit by its account id.
        lists: How lists are answered; `lists.page_rows = ...` grants more or fewer rows a page.
        campaigns: The campaigns of the first application.
        contact_lists: The contact lists of the first application.
        faults: What goes wrong; `faults.add("reset", times=1)`.
        log: The request log.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """A sandbox that does not serve yet.

        Args:
            config: Settings; None for the defaults.
            now: The platform's clock, seconds since the epoch: marks, tokens, the limit, `Date`.
            monotonic: Seconds on a clock that never jumps, for the request log.
        """
        self.config = config = config or SandboxConfig()
        self.app = App(
            client_id=config.client_id,
            secret=config.secret,
            algorithm=config.algorithm,
            public_key=config.public_key,
            scopes=frozenset({config.scope}),
            account_level=config.account_level,
            enforce_jti=config.enforce_jti,
            enforce_jwe=config.enforce_jwe,
            decryption_key=config.decryption_key,
        )
        first = Stream(config.stream_id, config.account_id, config.campaigns, config.app_id)
        self.tenants = {
            stream.stream_id: _tenant(stream, config, index, now)
            for index, stream in enumerate((first, *config.streams))
        }
        self.limits = {
            tenant.account_id: SlidingWindow(config.calls, config.window_seconds, count_refused=config.count_refused)
            for tenant in self.tenants.values()
        }
        self.lists = Lists(config.page_rows)
        self.campaigns = self.tenants[config.stream_id].campaigns
        self.contact_lists = self.tenants[config.stream_id].contact_lists
        self.faults = Faults()
        self.log = Journal(now=now, monotonic=monotonic, kept=config.log_kept)
        self._magic = MagicIds()
        self._frontend = Frontend(
            config,
            tenants=self.tenants,
            limits=self.limits,
            lists=self.lists,
            authenticator=Authenticator(self.app, now=now),
            faults=self.faults,
            magic=self._magic,
            journal=self.log,
            now=now,
        )
        self._control = Control(self, now=now)
        self._runner: web.ServerRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Scheme, address and port, without a slash at the end; of this machine's own where it listens on all.

        Raises:
            RuntimeError: The sandbox is not serving.
        """
        if not self._url:
            raise RuntimeError("the sandbox is not serving: use it as a context manager, or start it")
        return self._url

    async def start(self) -> None:
        """Begins to serve.

        Raises:
            OSError: The address cannot be bound.
        """
        server = web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=self.config.keepalive_seconds,
            handler_cancellation=False,
        )
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.config.host, self.config.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        host = _REACHED_AT.get(host, host)
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Switches the faults off, which lets everything that hangs go, and stops serving."""
        self.faults.clear()
        self._magic.release()
        runner, self._runner, self._url = self._runner, None, ""
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def control(self, request: web.BaseRequest) -> web.Response:
        """The answer to a request of the control API, wherever it came in; see `Control`."""
        return await self._control.handle(request)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.partition("?")[0].startswith(PREFIX):
            return await self.control(request)
        return await self._frontend.handle(request)


def _tenant(stream: Stream, config: SandboxConfig, index: int, now: Callable[[], float]) -> Tenant:
    # Each application draws from a generator of its own: one more campaign in the first changes nothing in the second.
    rng = random.Random(f"{config.seed}/{index}")  # noqa: S311 - invented data, no secrets
    user_id, org_id = ids.sms_id(rng, "u"), ids.sms_id(rng, "o")
    contact_lists = ContactListStore(now=now, rng=rng, user_id=user_id, queue_seconds=config.queue_seconds)
    dnc_list_id = contact_lists.seed(seeds.LIST_NAMES, seeds.DNC_LIST_NAME)
    campaigns = CampaignStore(
        now=now, rng=rng, preparing_seconds=config.preparing_seconds, run_seconds=config.run_seconds
    )
    made = seeds.campaigns(rng, stream.campaigns, now=now(), dnc_list_id=dnc_list_id, run_seconds=config.run_seconds)
    for campaign in made:
        campaigns.seed(campaign)
    return Tenant(
        stream_id=stream.stream_id,
        app_id=stream.app_id or stream.stream_id,
        account_id=stream.account_id,
        campaigns=campaigns,
        contact_lists=contact_lists,
        user_id=user_id,
        org_id=org_id,
        now=now,
        rng=rng,
    )
