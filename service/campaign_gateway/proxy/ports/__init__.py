"""What the story needs of the adapters: each inherits the port that it implements, and imports nothing else of another.

The expected is a value (`Reply`, `Failure`); exceptions carry only what interrupts a call: `Refused` by the budget,
`UpstreamError` on the wire.
"""

from campaign_gateway.proxy.ports.budget import Budget, LedgerLostError, Ledgers, Permit, Refused
from campaign_gateway.proxy.ports.changes import ChangeLog
from campaign_gateway.proxy.ports.index import USED_SECONDS, CampaignIndex
from campaign_gateway.proxy.ports.meter import HitLog, HitMeter, Meter, RequestMeter, Tally
from campaign_gateway.proxy.ports.store import Copy, Found, Handlers, Lease, Put, Store
from campaign_gateway.proxy.ports.traces import NO_TRACES, Answered, PlatformCall, Traces, seconds_of
from campaign_gateway.proxy.ports.upstream import Upstream, UpstreamError
from campaign_gateway.proxy.ports.webhooks import SendingRecords, Target

__all__ = [
    "NO_TRACES",
    "USED_SECONDS",
    "Answered",
    "Budget",
    "CampaignIndex",
    "ChangeLog",
    "Copy",
    "Found",
    "Handlers",
    "HitLog",
    "HitMeter",
    "Lease",
    "LedgerLostError",
    "Ledgers",
    "Meter",
    "Permit",
    "PlatformCall",
    "Put",
    "Refused",
    "RequestMeter",
    "SendingRecords",
    "Store",
    "Tally",
    "Target",
    "Traces",
    "Upstream",
    "UpstreamError",
    "seconds_of",
]
