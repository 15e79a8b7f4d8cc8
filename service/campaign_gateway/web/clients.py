"""Who may ask for what: client keys, their streams and their scopes."""

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from campaign_gateway.problems import Problem
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.web.limits import ClientLimits
from campaign_gateway.web.rejected import RejectedError
from campaign_gateway.web.sites import foreign_site
from campaign_gateway.web.tls import names_of_peer

KEY_BYTES = 32
LOOK_SECONDS = 1.0
"""How often it is looked whether a key has expired: the machine's clock may be set."""
_log = logging.getLogger(__name__)


class ClientKey:
    """One of a client's keys: until when it is good, and when it was last used."""

    __slots__ = ("expires", "name", "used")

    def __init__(self, name: str = "", expires: float = math.inf) -> None:
        """A key that nobody has used.

        Args:
            name: a metric label.
            expires: when it lets nobody in any longer, in seconds since 1970.
        """
        self.name, self.expires = name, expires
        self.used = -math.inf
        """The last time, on the performance counter, which a hit has at hand."""

    def last_used(self) -> float:
        """When it was last used, in seconds since 1970; 0 for not since the start."""
        return 0.0 if self.used == -math.inf else round(time.time() - perf_counter() + self.used, 3)


NO_KEY = ClientKey()
"""In the place of a key, where none is asked for."""


@dataclass(frozen=True, slots=True)
class Client:
    """An internal caller. `name` is a metric label."""

    name: str
    streams: frozenset[str]
    scopes: frozenset[str]
    limits: ClientLimits | None = field(default=None, compare=False)
    """None where it has none."""
    key: ClientKey = field(default=NO_KEY, compare=False)
    """The one that it was identified by."""


class Clients:
    """The callers, by the SHA-256 of their keys. The keys themselves are nowhere."""

    def __init__(
        self,
        by_hash: Mapping[str, Client],
        anonymous: Client | None,
        hosts: Collection[str] = (),
        certificates: Mapping[str, str] = {},
        clock: Callable[[], float] = time.time,
    ) -> None:
        """The callers known.

        Args:
            by_hash: clients by the lower-case hex SHA-256 of their key; one with several keys has a row for each.
            anonymous: who everybody is when no keys are set; None demands a key.
            hosts: see `sites.foreign_site`.
            certificates: clients' names by a name in their certificate.
            clock: seconds since 1970.
        """
        self._clock = clock
        self.epoch = Epoch()
        """Ends when they change, and with whatever else authorisations hang on."""
        self._hosts = hosts
        self._certificates = certificates
        self._by_hash: dict[bytes, Client] = {}
        self._by_name: dict[str, Client] = {}
        self.replace(by_hash, anonymous)

    def replace(self, by_hash: Mapping[str, Client], anonymous: Client | None = None) -> None:
        """From the next request on, these are the callers, on open connections too.

        What is known of the keys and limits that stay as they were is kept. Arguments as of the constructor.
        """
        now_known = {bytes.fromhex(digest): self._as_known(client) for digest, client in by_hash.items()}
        for digest, client in now_known.items():
            if (before := self._by_hash.get(digest)) is not None:
                client.key.used = before.key.used
        self._by_hash, self._anonymous = now_known, anonymous
        # A certificate is no key.
        self._by_name = {client.name: replace(client, key=NO_KEY) for client in now_known.values()}
        self.epoch.end()

    def _as_known(self, client: Client) -> Client:
        """The client with the counts of its limits, if it had the same ones before."""
        before = self._by_name.get(client.name)
        if before is None or before.limits is None or client.limits is None:
            return client
        return replace(client, limits=before.limits) if before.limits.terms == client.limits.terms else client

    def by_key(self) -> Iterator[Client]:
        """Each client, once for each of its keys."""
        yield from self._by_hash.values()

    async def watch(self) -> None:
        """Has open connections notice each key that expires, for as long as it runs."""
        seen = self._clock()
        while True:
            ahead = (client.key.expires - seen for client in self.by_key() if client.key.expires > seen)
            await asyncio.sleep(min([LOOK_SECONDS, *ahead]))
            seen = self.end_expired(seen)

    def end_expired(self, since: float) -> float:
        """Ends the epoch if a key has expired since that moment. Returns the present one."""
        now = self._clock()
        gone = [client for client in self.by_key() if since < client.key.expires <= now]
        for client in gone:
            _log.warning("the key %s of client %s has expired: it is refused", client.key.name, client.name)
        if gone:
            self.epoch.end()
        return now

    def admit(self, headers: CIMultiDictProxy[str]) -> None:
        """Lets a request with these fields go on to `identify`. A key is proof enough of where it comes from.

        Raises:
            RejectedError: no key is needed, and it may be for the page of another site: any page that a browser on this
                network shows could start a campaign.
        """
        if self._anonymous is not None and (foreign := foreign_site(headers, self._hosts)) is not None:
            raise RejectedError(Problem.FORBIDDEN, foreign)

    def certified(self, http: web.BaseRequest) -> Client | None:
        """The client whose certificate the connection has; None where a key is sent, which says more.

        The head of such a request does not tell whose it is: no grant may be recalled for it.
        """
        if not self._certificates or hdrs.AUTHORIZATION in http.headers:
            return None
        names = (self._certificates.get(name, "") for name in names_of_peer(http.transport))
        return next((self._by_name[name] for name in names if name in self._by_name), None)

    def identify(self, authorization: list[str]) -> Client:
        """The client that these `Authorization` field values belong to.

        Raises:
            RejectedError: no key, no such key, or more than one.
        """
        if self._anonymous is not None:
            return self._anonymous
        scheme, _, key = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # Not in constant time, which tells a guesser nothing: nobody can choose keys by the bits of their SHA-256, and
        # where a look-up ends depends on a hash of these bits that is seeded at the start of the process.
        found = self._by_hash.get(digest)
        if found is None or scheme.lower() != "bearer":
            raise RejectedError(Problem.UNAUTHENTICATED, _SEND_A_KEY)
        if found.key.expires <= self._clock():
            reason = f"the key {found.key.name} of client {found.name} has expired"
            raise RejectedError(Problem.UNAUTHENTICATED, _SEND_A_KEY, reason=reason)
        found.key.used = perf_counter()
        return found


_SEND_A_KEY = "send Authorization: Bearer <client key>"


def allow(client: Client, stream: str, scope: str) -> None:
    """Lets the client go on.

    Raises:
        RejectedError: the stream or the scope is not the client's.
    """
    if stream not in client.streams:
        raise RejectedError(Problem.FORBIDDEN, "this client has no right to that stream")
    if scope not in client.scopes:
        raise RejectedError(Problem.FORBIDDEN, f"this client lacks the scope {scope}")


def new_key() -> tuple[str, str]:
    """A fresh client key, and the hash that the settings want."""
    key = f"cgk_{secrets.token_urlsafe(KEY_BYTES)}"
    return key, hashlib.sha256(key.encode()).hexdigest()
