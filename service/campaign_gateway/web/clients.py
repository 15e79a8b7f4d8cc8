"""Who may ask for what: client keys, their streams and their scopes."""

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from campaign_gateway.problems import Problem
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.web.limits import ClientLimits
from campaign_gateway.web.rejected import RejectedError
from campaign_gateway.web.sites import foreign_site
from campaign_gateway.web.tls import names_of_peer

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Client:
    """An internal caller. `name` is a metric label."""

    name: str
    streams: frozenset[str]
    scopes: frozenset[str]
    limits: ClientLimits | None = field(default=None, compare=False)
    """None where it has none."""


class Clients:
    """The callers, by the SHA-256 of their keys. The keys themselves are nowhere."""

    def __init__(
        self,
        by_hash: Mapping[str, Client],
        anonymous: Client | None,
        hosts: Collection[str] = (),
        certificates: Mapping[str, str] = {},
    ) -> None:
        """The callers known.

        Args:
            by_hash: clients by the lower-case hex SHA-256 of their key.
            anonymous: who everybody is when no keys are set; None demands a key.
            hosts: see `sites.foreign_site`.
            certificates: clients' names by a name in their certificate.
        """
        self.epoch = Epoch()
        """Ends when they change, and with whatever else authorisations hang on."""
        self._anonymous = anonymous
        self._hosts = hosts
        self._certificates = certificates
        self.replace(by_hash)

    def replace(self, by_hash: Mapping[str, Client]) -> None:
        """From the next request on, these are the callers, on open connections too."""
        self._by_hash = {bytes.fromhex(digest): client for digest, client in by_hash.items()}
        self._by_name = {client.name: client for client in by_hash.values()}
        self.epoch.end()

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
            raise RejectedError(Problem.UNAUTHENTICATED, "send Authorization: Bearer <client key>")
        return found


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
