"""The command `plan`."""

import click

from campaign_gateway.parameters import COUNT, PART, SECONDS, DurationType, RateType, UsedType
from campaign_gateway.process import EXIT_BAD_SETTINGS, fail


@click.command()
@click.option("--campaigns", type=COUNT, required=True, help="Campaigns in the stream.")
@click.option("--used", type=UsedType(), default="1.0", help="Campaigns in use: 0.5, 50% or 400. [default: all]")
@click.option("--sms", type=PART, default=0.5, show_default=True, help="The part of the campaigns that is SMS.")
@click.option(
    "--change-rate", type=RateType(), default="0/s", show_default=True, help="Changes of all campaigns: 1/s 30/m 5/h."
)
@click.option("--budget", type=click.IntRange(min=1), default=60, show_default=True, help="Calls in a window.")
@click.option("--window", type=DurationType(), default="60s", show_default=True, help="The budget's window.")
@click.option("--reserve", type=COUNT, help="Calls kept for callers who wait. [default: one in twelve]")
@click.option("--share", type=PART, default=0.5, show_default=True, help="The part of the budget for the sweep.")
@click.option("--interactive", type=SECONDS, default=0.0, show_default=True, help="Callers' own calls a minute.")
@click.option(
    "--page-rows", type=click.IntRange(min=1), default=100, show_default=True, help="Most rows of a list in one answer."
)
@click.option("--lag", type=DurationType(), default="10s", show_default=True, help="How far the list may lag behind.")
def plan(
    campaigns: int,
    used: float,
    sms: float,
    change_rate: float,
    budget: int,
    window: float,
    reserve: int | None,
    share: float,
    interactive: float,
    page_rows: int,
    lag: float,
) -> None:
    """Predict how soon changes are seen, and what the calls are spent on."""
    from campaign_gateway.contract.listing import Channel  # noqa: PLC0415
    from campaign_gateway.policy.forecast import described, forecast  # noqa: PLC0415
    from campaign_gateway.policy.freshness import Freshness  # noqa: PLC0415
    from campaign_gateway.policy.pacing import Capacity, Workload  # noqa: PLC0415

    count = used if isinstance(used, int) else round(used * campaigns)
    reserved = budget // 12 if reserve is None else reserve
    if count > campaigns:
        fail(EXIT_BAD_SETTINGS, f"--used: {count} of {campaigns} campaigns cannot be in use")
    if reserved >= budget:
        fail(EXIT_BAD_SETTINGS, f"--reserve: {reserved} leaves nothing of a budget of {budget} calls")
    parts = {Channel.VOICE: 1 - sms, Channel.SMS: sms}
    moves = change_rate * count / campaigns if campaigns else 0.0
    seen = forecast(
        Capacity(budget, window, reserved, share, others=interactive * window / 60),
        Workload(
            used={channel: round(part * count) for channel, part in parts.items()},
            listed={channel: round(part * campaigns) for channel, part in parts.items()},
            moves={channel: part * moves for channel, part in parts.items()},
            page_rows=page_rows,
        ),
        lag,
        Freshness().max,
    )
    rows = described(seen)
    rows.append(("calls a minute", f"{seen.capacity:.1f} and a reserve of {reserved * 60 / window:.1f}"))
    rows += [(f"  {purpose}", f"{calls:.1f}") for purpose, calls in seen.calls.items()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")
    # Rotation takes what is left, so the two differ by what is rounded.
    if round(seen.changes, 1) > round(seen.readable, 1):
        click.echo(
            f"warning: {seen.changes:.1f} campaigns in use change a minute and {seen.readable:.1f} can be read: "
            "the others wait, known to be out of date"
        )
