"""What options of the command line are written as."""

import re
from datetime import UTC, datetime
from typing import Any

import click
from typing_extensions import override

PORT = click.IntRange(0, 65535)
COUNT = click.IntRange(min=0)
SECONDS = click.FloatRange(min=0)
PART = click.FloatRange(min=0, max=1)


class DurationType(click.ParamType[float]):
    """A duration as the settings write it, in seconds."""

    name = "duration"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

        from campaign_gateway.settings.scalars import PositiveDuration  # noqa: PLC0415

        if isinstance(value, float):
            return value
        try:
            return float(TypeAdapter(PositiveDuration).validate_python(value))
        except ValidationError:
            self.fail(f"{value!r} is not a duration such as 10s or 1m", param, ctx)


class MomentType(click.ParamType[str]):
    """A date or a time to come, as the settings write it."""

    name = "date"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

        from campaign_gateway.settings.scalars import Moment  # noqa: PLC0415

        try:
            moment = TypeAdapter(Moment).validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is not a date such as 2027-02-01", param, ctx)
        if moment <= datetime.now(UTC):
            self.fail(f"{value} is past", param, ctx)
        return str(value)


class RateType(click.ParamType[float]):
    """So many a second, minute or hour, as a number a second."""

    name = "rate"
    _FORM = re.compile(r"(\d+(?:\.\d+)?)/([smh])")
    _SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}  # noqa: RUF012 - never written to

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = self._FORM.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not a rate such as 1/s, 30/m or 5/h", param, ctx)
        return float(match[1]) / self._SECONDS[match[2]]


class UsedType(click.ParamType[float | int]):
    """A part of all, written with a point or as per cent, or a count."""

    name = "part or count"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        if not isinstance(value, str):
            return float(value)
        try:
            number: float | int = (
                float(value[:-1]) / 100 if value.endswith("%") else float(value) if "." in value else int(value)
            )
        except ValueError:
            number = -1
        if number < 0 or (isinstance(number, float) and not number <= 1):
            self.fail(f"{value!r} is not a part such as 0.5 or 50%, nor a count such as 400", param, ctx)
        return number
