from dataclasses import replace

import pytest

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy import cuts as cuts_module
from campaign_gateway.proxy.cuts import Cuts
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.request import Request
from tests.support.doubles import SUPPORT

FIELDS = frozenset({"name", "script"})
WHOLE = Stored(b'{"data":{"name":"a","script":"b","more":1}}', "application/json", b"digest", None, "Ready", 100.0)
NEWER = replace(WHOLE, body=b'{"data":{"name":"a","script":"c","more":1}}')


def asking(id_: str = "c-1", fields: frozenset[str] | None = FIELDS) -> Request:
    return Request(SUPPORT, GET, id_, "reporting", fields=fields)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """What was cut down anew."""
    found: list[Stored] = []
    cut = cuts_module.cut  # type: ignore[attr-defined]

    def noted(whole: Stored, *rest: object) -> Stored:
        found.append(whole)
        return cut(whole, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cuts_module, "cut", noted)
    return found


async def body_of(cuts: Cuts, request: Request, whole: Stored) -> bytes:
    reply = await cuts.apply(request, Reply(Outcome(), entry=whole, age=1.0))
    assert reply.entry is not None
    return reply.entry.body


async def test_what_was_cut_once_is_given_again_while_the_whole_is_the_same(made: list[Stored]) -> None:
    cuts = Cuts()
    for whole, validated_at in ((WHOLE, 100.0), (replace(WHOLE, validated_at=200.0), 200.0)):
        reply = await cuts.apply(asking(), Reply(Outcome(), entry=whole, age=1.0))
        assert reply.entry is not None
        assert (reply.entry.body, reply.entry.validated_at) == (b'{"data":{"name":"a","script":"b"}}', validated_at)
    assert len(made) == 1
    assert await body_of(cuts, asking(), NEWER) == b'{"data":{"name":"a","script":"c"}}'
    assert await body_of(cuts, asking(fields=frozenset({"script"})), NEWER) == b'{"data":{"script":"c"}}'
    assert len(made) == 3


async def test_the_oldest_cuts_go_first(made: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts_module, "MAX_BYTES", 2 * (cuts_module.OVERHEAD_BYTES + 40))
    cuts = Cuts()
    for id_ in ("c-1", "c-2", "c-3", "c-3", "c-2", "c-1"):
        await body_of(cuts, asking(id_), WHOLE)
    assert len(made) == 4, "only the first had gone"


async def test_what_asks_for_no_fields_or_has_no_answer_is_left_as_it_is(made: list[Stored]) -> None:
    whole, nothing = Reply(Outcome(), entry=WHOLE, age=1.0), Reply(Outcome())
    assert await Cuts().apply(asking(fields=None), whole) is whole
    assert await Cuts().apply(asking(), nothing) is nothing
    assert made == []
