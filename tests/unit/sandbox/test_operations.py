import pytest

from campaign_gateway.sandbox.operations import TABLE, Family, OperationName, match

ID = "cd-4f1a9c2-7b3e-4d58-9a61-c20e7f5b8d13"
N = OperationName


@pytest.mark.parametrize(
    ("method", "family", "path", "name"),
    [
        ("GET", Family.A, f"/campaign/{ID}?accountId=1", N.GET),
        ("GET", Family.B, f"/campaign/{ID}", N.GET),
        ("PUT", Family.A, f"/campaign/{ID}", N.UPDATE),
        ("PUT", Family.B, f"/campaign/{ID}", N.UPDATE),
        ("DELETE", Family.A, f"/campaign/{ID}", N.DELETE),
        ("DELETE", Family.B, f"/campaign/{ID}", N.DELETE),
        ("POST", Family.A, "/campaign", N.CREATE),
        ("POST", Family.B, "/campaign", N.CREATE),
        ("POST", Family.D, "/campaign", N.CREATE),
        ("POST", Family.A, "/campaign/getAllCampaignDetails", N.LIST),
        ("POST", Family.B, "/campaign/getAllCampaignDetails", N.LIST),
        ("POST", Family.A, f"/campaign/{ID}/status?view=status", N.STATUS),
        ("POST", Family.B, f"/campaign/{ID}/status?view=status", N.STATUS),
        ("POST", Family.A, f"/campaign/{ID}/status?view=contacts", N.OUTCOMES),
        ("POST", Family.B, f"/campaign/{ID}/status?view=contacts", N.OUTCOMES),
        ("POST", Family.D, f"/campaign/trigger/{ID}?trigger=play", N.TRIGGER),
        ("POST", Family.A, f"/campaign/{ID}?campaignType=sms&trigger=play", N.TRIGGER),
        ("POST", Family.A, f"/campaign//trigger/{ID}", N.TRIGGER),
        ("POST", Family.C, f"/campaign/{ID}", N.TRIGGER),
        ("POST", Family.A, "/campaign/schedule?enableSchedule=true", N.SCHEDULE),
        ("POST", Family.A, "/campaign/cid-1/callContactAt", N.CALL_BACK),
        ("POST", Family.A, "/campaign/contactList/createContactList", N.CONTACT_LIST_CREATE),
        ("GET", Family.B, "/campaign/contactList/cl-1", N.CONTACT_LIST_GET),
        ("POST", Family.A, "/campaign/contactList/getAllListDetails?type=call", N.CONTACT_LIST_LIST),
        ("PUT", Family.A, "/campaign/contactList/cl-1", N.CONTACT_LIST_UPDATE),
        ("DELETE", Family.B, "/campaign/contactList/cl-1", N.CONTACT_LIST_DELETE),
        ("GET", Family.B, "/campaign/contactList/cl-1/getAllContacts", N.CONTACTS),
        ("POST", Family.E, "/campaign/contactList/addContacts", N.CONTACTS_ADD),
    ],
)
def test_documented_request(method, family, path, name):
    found = match(method, f"{family}/st-1{path}")
    assert found.name == name
    assert found.stream_id == "st-1"
    assert found.version == (1 if family in {Family.B, Family.C} else 2)


@pytest.mark.parametrize(
    ("method", "target", "wrong_method"),
    [
        ("GET", "/", False),
        ("GET", f"{Family.A}", False),
        ("GET", f"{Family.A}/st-1", False),
        ("GET", f"{Family.A}/st-1/campaign/{ID}/other", False),
        ("GET", f"{Family.C}/st-1/campaign/getAllCampaignDetails", False),
        ("PATCH", f"{Family.A}/st-1/campaign/{ID}", True),
        ("GET", f"{Family.A}/st-1/campaign/schedule", True),
        ("GET", f"{Family.A}/st-1/campaign/getAllCampaignDetails", True),
        ("GET", f"{Family.C}/st-1/campaign/{ID}", True),
        ("HEAD", f"{Family.A}/st-1/campaign/{ID}", True),
    ],
)
def test_unknown_request(method, target, wrong_method):
    found = match(method, target)
    assert found.name is OperationName.UNKNOWN
    assert found.wrong_method is wrong_method


@pytest.mark.parametrize(
    "path",
    [
        f"/campaign/{ID}",
        f"/campaign/{ID}/",
        f"//campaign//{ID}",
        f"/c%61mpaign/{ID}",
        "/campaign/cd%2D4f1a9c2" + ID[10:],
    ],
)
def test_paths_are_normalised(path):
    found = match("GET", f"{Family.A}/st-1{path}")
    assert (found.name, found.id) == (OperationName.GET, ID)


def test_an_encoded_slash_stays_inside_the_id():
    assert match("GET", f"{Family.A}/st-1/campaign/a%2Fb").id == "a/b"


def test_backslashes_of_the_vendor_pages_are_tolerated():
    found = match("POST", rf"{Family.D}/st-1/campaign/trigger/{ID}?accountId=1\&campaignType=voice%5C&trigger=play")
    assert found.query == {"accountId": "1", "campaignType": "voice", "trigger": "play"}


def test_query_is_decoded():
    found = match("POST", f"{Family.A}/st-1/campaign/schedule?campaignName=A%20b%2Fc+d&empty=&=x")
    assert found.query == {"campaignName": "A b/c d", "empty": ""}


def test_every_operation_has_a_row():
    assert {row.name for row in TABLE} == set(OperationName) - {OperationName.UNKNOWN}
