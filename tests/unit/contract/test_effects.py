import pytest

from campaign_gateway.contract.document import parse
from campaign_gateway.contract.effects import RESOURCES, Scope, effects_of, ids_named
from campaign_gateway.contract.operations import OPERATIONS, Kind
from tests.support.builders import samples

ONE, ALL, MAYBE = Scope

# Section 10 of the contract, "What a write can change". Outcomes and contacts are never stored.
#   write                  by id  status list   list by id  all lists
SECTION_10 = {
    "create":              (ONE,   ONE,   ALL,   ALL,  ALL),  # campaignInUse
    "update":              (ONE,   ONE,   ALL,   ALL,  ALL),  # name, status; campaignInUse, names
    "delete":              (ONE,   ONE,   ALL,   ALL,  ALL),  # gone; campaignInUse
    "start":               (ONE,   ONE,   ALL,   ALL,  ALL),  # isListInUse
    "stop":                (ONE,   ONE,   ALL,   ALL,  ALL),
    "schedule-on":         (ONE,   ONE,   ALL,   None, None),
    "schedule-off":        (ONE,   ONE,   ALL,   None, None),
    "call-back":           (MAYBE, MAYBE, MAYBE, None, None),
    "contact-list-create": (None,  None,  None,  ONE,  ALL),
    "contact-list-update": (ALL,   None,  ALL,   ONE,  ALL),  # contactLists names
    "contact-list-delete": (ALL,   None,  ALL,   ONE,  ALL),
    "contacts-add":        (MAYBE, None,  MAYBE, ALL,  ALL),  # the list is named; count, status
}  # fmt: skip
READS = ("get", "status", "list", "contact-list-get", "contact-list-list")


@pytest.mark.parametrize("write", SECTION_10)
def test_a_write_invalidates_what_the_contract_says_in_both_versions(write):
    expected = {
        (resource, scope)
        for read, scope in zip(READS, SECTION_10[write], strict=True)
        if scope is not None
        for resource in (read, f"{read}-v1")
    }
    found = [(effect.resource, effect.scope) for effect in effects_of(write)]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_every_write_has_a_row_here():
    assert set(SECTION_10) == {row.name for row in OPERATIONS if row.kind is Kind.WRITE}


def test_every_read_that_is_stored_is_a_column():
    stored = {row.resource for row in OPERATIONS if row.kind in {Kind.READ, Kind.READ_BY_POST}}
    assert {resource for name in RESOURCES for resource in RESOURCES[name]} == stored
    assert set(RESOURCES) == set(READS)


@pytest.mark.parametrize(
    ("file", "ids"),
    [
        ("create-voice-agentless-result.json", {"cd-4f1a9c2-7b3e-4d58-9a61-c20e7f5b8d13"}),
        ("create-sms-simple-result.json", {"cd-b83d01f6-2c47-5e9a-8f10-6a4d9c7e2b55"}),
        ("create-voice-preview-v1-result.json", {"cd-a63c0f9-de21-4b7c-8f05-e17b4d2a9c60"}),
        ("update-voice-result.json", {"cd-4f1a9c2-7b3e-4d58-9a61-c20e7f5b8d13"}),
        ("delete-sms-result.json", {"cd-0e97c4a2-5d18-5b3f-9c71-f2a6083bd4e9"}),
        ("contact-list-update-result.json", {"cl-e05a9c3-1f7d-4b68-8a42-6d3b9e7f1c20"}),
        ("schedule-disabled.json", None),
        ("trigger-voice-start.json", set()),
        ("add-contacts-accepted.json", set()),
        ("callback-partial-failure.json", set()),
    ],
)
def test_the_ids_that_an_answer_names_are_found(file, ids):
    found = set(ids_named(parse(samples()[file].response.body)))
    assert found == ids if ids is not None else len(found) == 1


@pytest.mark.parametrize("document", [None, [], "cd-1", {"id": 7}, {"data": "cd-1"}, {"data": {"_id": None}}, {}])
def test_an_answer_that_names_none_names_none(document):
    assert set(ids_named(document)) == set()
