import pytest

from campaign_gateway.policy.budget_mode import BRIEF_LOSS_SECONDS, Contact, Mode, part_of
from campaign_gateway.policy.ledger import SILENCE_SECONDS, WITHHELD_WINDOWS, Lane
from tests.support.budgets import MOST, WINDOW, allow

LOST = 1000.0
ALONE = Contact(1, LOST, LOST)
ONE_OF_THREE = Contact(3, LOST, LOST)
SHARE_FROM = LOST + SILENCE_SECONDS + MOST
ALLOTMENT, SHARE = 2, 4


@pytest.mark.parametrize(
    ("contact", "at", "mode", "calls"),
    [
        pytest.param(Contact(3), 0.0, Mode.SHARED, 12, id="not-lost"),
        pytest.param(ALONE, 0.0, Mode.BRIEF_LOSS, 12, id="alone-just-lost"),
        pytest.param(ALONE, BRIEF_LOSS_SECONDS, Mode.SOLE, 12, id="alone-knows-of-all-calls"),
        pytest.param(ONE_OF_THREE, 0.0, Mode.BRIEF_LOSS, ALLOTMENT, id="just-lost"),
        pytest.param(
            ONE_OF_THREE, BRIEF_LOSS_SECONDS, Mode.HOLDING_BACK, ALLOTMENT, id="others-may-not-have-missed-it"
        ),
        pytest.param(ONE_OF_THREE, SHARE_FROM - LOST - 0.25, Mode.HOLDING_BACK, ALLOTMENT, id="calls-may-be-under-way"),
        pytest.param(ONE_OF_THREE, SHARE_FROM - LOST, Mode.ON_ITS_SHARE, SHARE, id="all-have-left"),
        pytest.param(
            Contact(3, LOST, LOST, quiet_until=LOST + 30.0),
            SHARE_FROM - LOST,
            Mode.HOLDING_BACK,
            ALLOTMENT,
            id="it-had-said-that-it-would-be-quiet",
        ),
        pytest.param(
            Contact(3, LOST, LOST - SILENCE_SECONDS - min(MOST, WITHHELD_WINDOWS * WINDOW)),
            BRIEF_LOSS_SECONDS,
            Mode.HOLDING_BACK,
            0,
            id="nobody-leaves-its-allotment-to-it-any-more",
        ),
    ],
)
def test_what_a_replica_goes_by_and_may_send(contact: Contact, at: float, mode: Mode, calls: int) -> None:
    found = contact.permitted(allow(12), ALLOTMENT, SHARE, LOST + at)
    assert (contact.mode(allow(12), LOST + at), found.calls) == (mode, calls)


@pytest.mark.parametrize("contact", [ALONE, ONE_OF_THREE], ids=["alone", "one-of-three"])
def test_modes_come_in_their_order_and_it_sits_out_until_it_may_count_on_its_share(contact: Contact) -> None:
    moments = [LOST + number / 4 for number in range(int(8 * MOST))]
    modes = [contact.mode(allow(12), at) for at in moments]
    order = list(dict.fromkeys(modes))
    assert modes == sorted(modes, key=order.index), "none comes back"
    assert set(order) == (
        {Mode.BRIEF_LOSS, Mode.SOLE} if contact is ALONE else {Mode.BRIEF_LOSS, Mode.HOLDING_BACK, Mode.ON_ITS_SHARE}
    )
    for at, mode in zip(moments, modes, strict=True):
        sits_out = contact is ONE_OF_THREE and mode is not Mode.ON_ITS_SHARE
        assert contact.sits_out(allow(12), at) == (SHARE_FROM - at if sits_out else 0.0)


@pytest.mark.parametrize(("calls", "writes"), [(0, {}), (1, {}), (2, {Lane.WRITES: 1}), (6, {Lane.WRITES: 1})])
def test_writes_can_count_on_one_of_several_calls(calls: int, writes: dict[Lane, int]) -> None:
    found = part_of(allow(12, lanes={Lane.WRITES: 2, Lane.VALIDATION: 3}, reserve=4), calls)
    assert (found.calls, found.reserve, found.lanes) == (calls, 0, writes)
