import pytest

from campaign_gateway.sandbox.answers import RefusedError
from campaign_gateway.sandbox.seeds import FORMS, kind_of
from campaign_gateway.sandbox.validation import campaign_rules, check


def reason(form, body, version=2):
    try:
        check(body, campaign_rules(kind_of(form), body, version=version))
    except RefusedError as refusal:
        return refusal.reason
    return ""


def changed(body, path, value):
    """The body with one field replaced, or taken away where the value is ...."""
    head, _, rest = path.partition(".")
    if rest:
        return {**body, head: changed(body[head], rest, value)}
    kept = {key: old for key, old in body.items() if key != head}
    return kept if value is ... else {**kept, head: value}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", [1, 2])
def test_a_complete_body_passes(form, version, body):
    assert reason(form, body(form), version) == ""


@pytest.mark.parametrize(
    ("form", "path", "value"),
    [
        ("Agentless", "name", ...),
        ("Agentless", "name", ""),
        ("Agentless", "name", "x" * 49),
        ("Agentless", "name", 5),
        ("Agentless", "description", ...),
        ("Agentless", "description", "x" * 257),
        ("Agentless", "contactLists", []),
        ("Agentless", "contactLists", "List"),
        ("Agentless", "contactLists", [{"name": "List"}]),
        ("Agentless", "dncLists", ...),
        ("Agentless", "dncLists", "List"),
        ("simple", "dncLists", []),
        ("Agentless", "priority", "6"),
        ("Agentless", "priority", 3),
        ("Agentless", "priority", []),
        ("Agentless", "dialingMode", "Power"),
        ("Agentless", "experienceFlowName", ...),
        ("Agentless", "enableMachineDetect", True),
        ("Agentless", "schedule.isSchedulingEnabled", "no"),
        ("Agentless", "dialingStrategy", ...),
        ("Agentless", "dialingStrategy.callerId.phoneNumber", "555-0101"),
        ("Agentless", "dialingStrategy.callingHours.frequency", "HOURLY"),
        ("Agentless", "dialingStrategy.callingHours.days", []),
        ("Agentless", "dialingStrategy.callingHours.days", [{"day": "Monday", "start": "9:00 AM", "end": "6:00 PM"}]),
        ("Agentless", "dialingStrategy.callingHours.days", [{"day": "MO", "start": "09:00", "end": "6:00 PM"}]),
        ("Agentless", "dialingStrategy.dialingOrder", "RANDOM"),
        ("Agentless", "dialingStrategy.maxAttemptsPerRecord", 0),
        ("Agentless", "dialingStrategy.maxAttemptsPerRecord", 101),
        ("Agentless", "dialingStrategy.defaultRetryPeriod", 1441),
        ("Agentless", "dialingStrategy.maxRingTime", 4),
        ("Agentless", "dialingStrategy.maxRingTime", True),
        ("Progressive", "queue_name", ...),
        ("Preview", "queue_name", ...),
        ("Preview", "maxSkips", -1),
        ("simple", "message", ...),
        ("simple", "format", "html"),
        ("template", "message.template_name", ""),
        ("advanced", "experienceFlowName", ...),
    ],
)
def test_a_broken_rule_is_named(form, path, value, body):
    assert reason(form, changed(body(form), path, value)).startswith(path)


@pytest.mark.parametrize(
    ("form", "path", "value", "version"),
    [
        ("Agentless", "enableMachineDetect", "detect", 2),
        ("Preview", "enableMachineDetect", True, 2),
        ("Preview", "enableMachineDetect", True, 1),
        ("Agentless", "dncLists", ..., 1),
        ("simple", "dncLists", ..., 2),
        ("simple", "format", "basic", 2),
        ("Agentless", "schedule", ..., 2),
        ("Agentless", "unheard of", 1, 2),
    ],
)
def test_what_may_differ(form, path, value, version, body):
    assert reason(form, changed(body(form), path, value), version) == ""


def test_v1_takes_a_boolean_for_machine_detection(body):
    assert reason("Agentless", body("Agentless", enableMachineDetect="no"), 1).startswith("enableMachineDetect")


def test_the_refusal_is_the_documented_one():
    with pytest.raises(RefusedError) as refusal:
        check({}, campaign_rules(kind_of("simple"), {}, version=2))
    assert (refusal.value.status, refusal.value.code) == (412, 412)
    assert refusal.value.message == "Validation errors/ Invalid arguments"
