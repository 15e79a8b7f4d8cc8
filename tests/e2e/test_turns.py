"""No turn of the event loop is long, whatever the platform sends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from campaign_gateway.sandbox import distortions
from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import gateway_process, settings_for

LONGEST_SECONDS = 0.05
"""Of processor time, which a busy neighbour stretches two or three times; the design is 0.02 on a quiet machine."""
ANSWERS = 6


def decimals(body: bytes, size: int) -> bytes:
    """The document with a member of so many bytes more, all of it short decimals."""
    document = json.loads(body) | {"padding": []}
    return json.dumps(document)[:-2].encode() + b",".join([b"1.25"] * (size // 5)) + b"]}"


@pytest.mark.drill(
    "answers that take long to read",
    planted="120 KiB of decimals, of which each was made, checked and compared by itself",
    seen="`loop_blocked_seconds` shows no long turn: they are read beside the loop",
)
async def test_answers_of_many_values_hold_nobody_up(
    sandbox: Sandbox, tmp_path: Path, figure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distortions, "_padded", decimals)
    campaigns = [each.id for each in sandbox.campaigns.all()[:ANSWERS]]
    async with gateway_process(settings_for(sandbox, tmp_path, sweep={"share": 0}), tmp_path) as gateway:
        for campaign in campaigns:
            sandbox.faults.add("oversize", campaign=campaign, size_bytes=120 * 2**10)
            assert (await gateway.get(campaign))[0] == 200
        longest = await gateway.metric("loop_blocked_longest_seconds")
        assert longest < LONGEST_SECONDS
    figure(f"{ANSWERS} answers, longest turn {longest * 1000:.0f} ms")
