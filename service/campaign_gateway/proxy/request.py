"""What is asked of the story: a request, the stream that it is for, and the key that it is stored under."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from campaign_gateway.contract.operations import Operation, Subject, Tenant
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives

_NO_VALUES: Mapping[str, str] = MappingProxyType({})
"""One for all: hits keep their requests."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A platform application as the gateway knows it."""

    alias: str
    tenant: Tenant
    credential: str
    """Name of the credential that signs for it."""
    identity: str
    """Digest of host, tenant and credential: everything that makes two streams' campaigns different things."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client's: a read, or a write."""

    stream: Stream
    operation: Operation
    id: str
    client: str
    directives: RequestDirectives = NO_DIRECTIVES
    fields: frozenset[str] | None = None
    """Members of `data` that are wanted; None for all. No part of the key: they are cut out after the cache."""

    body: bytes | None = None
    """JSON, for operations that take some; of reads that are stored, in its canonical form."""
    values: Mapping[str, str] = field(default_factory=lambda: _NO_VALUES)
    """What the operation's placeholders other than the id and the tenant's stand for."""

    @property
    def is_about_a_campaign(self) -> bool:
        """Whether it is about the one campaign whose id it names."""
        return bool(self.id) and self.operation.subject is Subject.CAMPAIGN

    @property
    def key(self) -> str:
        """The entry's key: equal only for the same question to the same stream."""
        question = self.id if self.body is None else hashlib.blake2b(self.body, digest_size=16).hexdigest()
        return f"{self.stream.identity}:{self.operation.resource}:{question}"


def all_of(stream: Stream, resource: str) -> str:
    """The key that stands for every stored answer of a stream's resource."""
    return f"{stream.identity}:{resource}:{EVERY}"


def group_of(key: str) -> str:
    """The key of all answers that the key's one belongs to."""
    return f"{key.rpartition(':')[0]}:{EVERY}"


EVERY = "*"
"""In the place of an id, which never holds it."""
