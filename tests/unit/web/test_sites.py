"""What may be for the page of another site, by its fields and the name that it came by."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from campaign_gateway.web.sites import foreign_site

HOSTS = {"gateway.example.com"}


def is_foreign(**fields: str) -> bool:
    named = CIMultiDict((name.replace("_", "-"), value) for name, value in fields.items())
    return foreign_site(CIMultiDictProxy(named), HOSTS) is not None


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1.", "127.0.0.1:8080", "[::1]:8080", "[fe80::1%25eth0]", "10.1.2.3:80"),
        *("localhost:8080", "LocalHost", "localhost.", "a.localhost"),
        *("gateway", "gateway:8080", "gateway.team.svc", "gateway.team.svc.cluster.local:8080", "gateway.internal"),
        *("gateway.example.com", "GATEWAY.example.com.:8080", "a.gateway.example.com"),
    ],
)
def test_the_gateways_own_names(host):
    assert not is_foreign(Host=host)


@pytest.mark.drill(
    "a page whose name was made to point here (DNS rebinding)",
    planted="`Host` with a public name, for the API without client keys and for the operators' port",
    seen="403, and nothing is asked",
)
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example:8080", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "xlocalhost.dev"),
        *("example.com", "evilgateway.example.com", "gateway.example.com.evil.example", "gateway.prod"),
        *("0x7f.1", "127.1", ":8080", ".", "[", "[evil.example]"),
    ],
)
def test_any_other_name_is_for_somebody_elses_page(host):
    assert is_foreign(Host=host)


def test_a_client_that_is_no_browser_may_come_without_a_name():
    assert not is_foreign()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Sec_Fetch_Site": "same-origin", "Origin": "http://gateway"}, False),
        ({"Sec_Fetch_Site": "none"}, False),
        ({"Origin": "http://GATEWAY"}, False),
        ({"Sec_Fetch_Site": "same-site", "Origin": "http://gateway"}, True),
        ({"Sec_Fetch_Site": ""}, True),
        ({"Origin": "http://gateway:81"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://["}, True),
    ],
)
def test_a_page_of_another_site_is_named_by_the_browser(fields, expected):
    assert is_foreign(Host="gateway", **fields) is expected
