"""Calls that are granted ahead: what each replica may begin by itself if it loses the ledger.

Laws of this module, for several replicas:

1. The slots held, the allotments of all, and what is withheld for missing replicas are never more than there are
   slots, as long as the ledger is whole: whoever takes a slot leaves the others' allotments alone
   (`policy.schedule`).
2. A replica changes no allotment but its own, in the change that it makes to the ledger. Where it does not know whether
   that change was made, it believes the smaller one.
3. None is more than the share: the calls divided by the replicas, or what is left beside what others take for theirs.
4. A replica that loses the ledger has no more calls in any window than its allotment, until all calls have left the
   window that others may have begun with the whole budget, before they missed it (it *sits out*). After that it keeps
   to its share, which the others withhold by then.
5. So no window sees more than the budget. Before the end of the first sit-out all arrivals are of slots that were held
   when the ledger was lost, or of allotments, by law 1. After it what was held has left; whoever sits out yet has calls
   of its allotment, which is no more than its share, by law 3; and all shares are no more than the budget.
6. While nobody misses calls, all that is free is allotted. When somebody does, the others give theirs back, all but the
   least, when they are seen next: about a second later.
"""

from dataclasses import replace

from campaign_gateway.policy.capacity import capacity, learned
from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, believed_share, held_slots, is_whole, missing

WANTED_SECONDS = 3.0
"""How long after a call was missed nothing is allotted anew."""
LEAST_PARTS = 12
"""A call for each replica even then, if that is no more than this part of all of them."""


def allotted_to_others(ledger: Ledger, replica: str, now: float) -> int:
    """Calls that other replicas may begin without the ledger; what is withheld for missing ones is not among them."""
    gone = missing(ledger, now)
    return sum(count for name, count in ledger.allotments.items() if name != replica and name not in gone)


def share_of(ledger: Ledger, allowance: Allowance, replica: str) -> int:
    """The calls of a window that a replica may count on by itself: all of them if it is the only one."""
    others = [name for name in ledger.replicas if name != replica]
    if not others:
        return allowance.calls
    left = allowance.calls - sum(believed_share(ledger, allowance, name) for name in others)
    return max(0, min(allowance.calls // (len(others) + 1), left))


def reserved_by_others(ledger: Ledger, allowance: Allowance, replica: str, now: float) -> int:
    """Those of them that are not given back when calls are missed."""
    least, gone = _least(ledger, allowance), missing(ledger, now)
    rows = ledger.allotments.items()
    return sum(min(count, least) for name, count in rows if name != replica and name not in gone)


def allot(ledger: Ledger, allowance: Allowance, replica: str, now: float) -> Ledger:
    """The ledger with the replica's own allotment as it is to be: of what is free, or what it can spare."""
    if not is_whole(ledger, now):
        return ledger
    own = ledger.allotments.get(replica, 0)
    held = len(held_slots(ledger, now))
    room = capacity(ledger, allowance, now) - held - allotted_to_others(ledger, replica, now)
    part = learned(ledger, allowance, now) / allowance.calls
    # Of a lone one at most half, so that whoever joins finds something before they know of each other.
    most = min(share_of(ledger, allowance, replica), allowance.calls // 2)
    wanted = now < ledger.wanted_at + WANTED_SECONDS
    target = min(most, _least(ledger, allowance)) if wanted else int(most * part)
    count = max(0, min(target, room))
    return ledger if count == own else replace(ledger, allotments={**ledger.allotments, replica: count})


def _least(ledger: Ledger, allowance: Allowance) -> int:
    """What a replica keeps while others miss calls: its part of what only writes may take, or one if that is little."""
    known = max(1, len(ledger.replicas))
    one = 1 if known * LEAST_PARTS <= allowance.calls else 0
    return max(allowance.lanes.get(Lane.WRITES, 0) // known, one)
