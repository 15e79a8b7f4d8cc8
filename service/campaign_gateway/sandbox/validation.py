"""What bodies must contain: the documented rules as tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campaign_gateway.sandbox.answers import invalid
from campaign_gateway.sandbox.campaigns import Kind

_TIME_OF_DAY = re.compile(r"([1-9]|1[0-2]):[0-5]\d (AM|PM)")
_PHONE_NUMBER = re.compile(r"\+?\d{5,15}")
_DAYS = frozenset({"SU", "MO", "TU", "WE", "TH", "FR", "SA"})

NAME_LENGTH = 48
DESCRIPTION_LENGTH = 256

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Rule:
    """One field of a body.

    Attributes:
        path: Its name, with dots into objects.
        fits: Whether a value is acceptable.
        expected: What an acceptable value is, for the reason of a refusal.
        required: It must be there.
    """

    path: str
    fits: Callable[[Any], bool]
    expected: str
    required: bool = True


def check(body: Mapping[str, Any], rules: Sequence[Rule]) -> None:
    """Returns if a body keeps to the rules.

    Raises:
        RefusedError: 412, with the first broken rule as its reason.
    """
    for rule in rules:
        value = _at(body, rule.path)
        if value is _ABSENT:
            if rule.required:
                raise invalid(f"{rule.path} is required: {rule.expected}")
        elif not rule.fits(value):
            raise invalid(f"{rule.path} must be {rule.expected}")


def campaign_rules(kind: Kind, body: Mapping[str, Any], *, version: int) -> tuple[Rule, ...]:
    """The rules for a create or an update, which replaces everything and so has the same ones.

    Args:
        kind: What the campaign is.
        body: The body; its mode or format decides which further fields it needs.
        version: 1 or 2.
    """
    if kind is Kind.SMS:
        form = _SMS_FORMS.get(body.get("format"), ())
        dnc = (_dnc(required=False),) if version > 1 else ()
        return (*_COMMON, *dnc, _choice("format", "simple", "advanced", "basic"), *_STRATEGY, *form)
    mode = body.get("dialingMode")
    dnc = (_dnc(required=True),) if version > 1 else ()
    rules = (
        *_COMMON,
        *dnc,
        _choice("dialingMode", "Agentless", "Progressive", "Preview"),
        *_STRATEGY,
        *_VOICE_STRATEGY,
    )
    if version == 1:
        return (*rules, *_VOICE_MODES.get(mode, ()), Rule("enableMachineDetect", _is_flag, "a boolean", required=False))
    detect = (_choice("enableMachineDetect", "no", "detect", "disconnect", required=False),)
    return (*rules, *_VOICE_MODES.get(mode, ()), *(detect if mode == "Agentless" else ()))


def _at(body: Mapping[str, Any], path: str) -> Any:
    value: Any = body
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _text(path: str, longest: int, *, required: bool = True) -> Rule:
    return Rule(
        path,
        lambda value: isinstance(value, str) and 0 < len(value) <= longest,
        f"text of 1 to {longest} characters",
        required=required,
    )


def _choice(path: str, *values: str, required: bool = True) -> Rule:
    return Rule(
        path, lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}", required=required
    )


def _whole(path: str, least: int, most: int, *, required: bool = True) -> Rule:
    return Rule(
        path,
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        f"a whole number from {least} to {most}",
        required=required,
    )


def _dnc(*, required: bool) -> Rule:
    return Rule(
        "dncLists",
        lambda value: isinstance(value, dict) and isinstance(value.get("name"), str),
        "an object with a name",
        required=required,
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


def _are_days(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_day(day) for day in value)


def _is_day(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("day") in _DAYS
        and all(_TIME_OF_DAY.fullmatch(str(value.get(key))) for key in ("start", "end"))
    )


_COMMON = (
    _text("name", NAME_LENGTH),
    _text("description", DESCRIPTION_LENGTH),
    Rule("contactLists", _is_name_list, "a list of at least one name"),
    _choice("priority", "1", "2", "3", "4", "5"),
    Rule("schedule.isSchedulingEnabled", _is_flag, "a boolean", required=False),
)
_STRATEGY = (
    Rule(
        "dialingStrategy.callerId.phoneNumber",
        lambda value: isinstance(value, str) and _PHONE_NUMBER.fullmatch(value) is not None,
        "a phone number",
    ),
    _choice("dialingStrategy.callingHours.frequency", "WEEKLY", "DAILY", "CUSTOM"),
    _text("dialingStrategy.callingHours.timezone", 64),
    Rule("dialingStrategy.callingHours.days", _are_days, "a list of {day: MO..SU, start: 9:00 AM, end: 6:00 PM}"),
)
_VOICE_STRATEGY = (
    _choice("dialingStrategy.dialingOrder", "FIFO", "LIFO"),
    _whole("dialingStrategy.maxAttemptsPerRecord", 1, 100),
    _whole("dialingStrategy.defaultRetryPeriod", 1, 1440),
    _whole("dialingStrategy.maxRingTime", 5, 120),
)
_QUEUE = _text("queue_name", 256)
_VOICE_MODES: Mapping[Any, tuple[Rule, ...]] = {
    "Agentless": (_text("experienceFlowName", 256),),
    "Progressive": (_QUEUE,),
    "Preview": (_QUEUE, _whole("maxSkips", 0, 100, required=False)),
}
_MESSAGE = (_text("message.message", 16_384), _text("message.template_name", 256, required=False))
_SMS_FORMS: Mapping[Any, tuple[Rule, ...]] = {
    "simple": _MESSAGE,
    "basic": _MESSAGE,
    "advanced": (_text("experienceFlowName", 256),),
}

OUTCOMES = (_whole("page", 1, 1_000_000), _whole("limit", 1, 100))
CONTACT_LIST_CREATE = (
    _text("name", NAME_LENGTH),
    _text("description", DESCRIPTION_LENGTH),
    _choice("source", "passiveApi"),
    Rule("allowDuplicates", _is_flag, "a boolean", required=False),
)
CONTACT_LIST_UPDATE = (
    _text("name", NAME_LENGTH),
    _text("description", DESCRIPTION_LENGTH),
    Rule("allowDuplicates", _is_flag, "a boolean", required=False),
)
CONTACTS_ADD = (
    _text("contact_list_name", NAME_LENGTH),
    Rule(
        "data",
        lambda value: (
            isinstance(value, list)
            and bool(value)
            and all(
                isinstance(row, dict)
                and isinstance(row.get("phoneNumber"), str)
                and _PHONE_NUMBER.fullmatch(row["phoneNumber"]) is not None
                for row in value
            )
        ),
        "a list of objects with a phoneNumber",
    ),
)
