import pytest

from campaign_gateway.policy.codings import accepts_gzip


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZip, deflate, br", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br;q=1, x-gzip; q=0.2", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("gzip;q=0.001", True),
        ("*;q=0", False),
        ("identity, br", False),
        ("notgzip", False),
    ],
)
def test_gzip_is_sent_to_whoever_names_it(field, accepted):
    assert accepts_gzip(field) is accepted
