from itertools import accumulate, repeat

from campaign_gateway.policy.backoff import Backoff


def test_each_wait_is_longer_than_the_one_before_it_up_to_the_longest():
    grown = accumulate(repeat(None, 5), lambda backoff, _: backoff.grown(), initial=Backoff(1.0, 10.0, factor=3.0))
    assert [backoff.current for backoff in grown] == [0.0, 1.0, 3.0, 9.0, 10.0, 10.0]


def test_it_goes_on_from_where_it_was():
    assert Backoff(1.0, 8.0, current=2.0).grown().current == 4.0
