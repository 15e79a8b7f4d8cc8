import json
import re
import time
from datetime import timedelta
from importlib import resources

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from campaign_gateway.contract.answers import Response, classify
from campaign_gateway.contract.operations import LIST
from campaign_gateway.doctor import redis_facts, redis_verdicts, stream_verdicts, verdicts
from campaign_gateway.doctor.calls import within_reserve
from campaign_gateway.doctor.findings import Check
from campaign_gateway.doctor.reach import Connected, Handshake, Tunnel
from campaign_gateway.doctor.stream_verdicts import StreamFacts
from campaign_gateway.policy.ledger import Allowance
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.connect import RedisTarget, open_link
from tests.support.builders import JSON_TYPE
from tests.support.meters import CountingMeter
from tests.support.tls import Authority

GENERIC = "Invalid SDK credentials"
EXPIRED = "error verifying the jwt: jwt expired"


def refused(message, status=401):
    body = json.dumps({"errors": [{"msg": message, "code": 4002}]}).encode()
    return classify(LIST, None, Response(status, JSON_TYPE, body), 0.0)


def facts(first, **known):
    given = {"seconds_ahead": 0.1, "known": 0, "allowed": 60, "is_shared": True, **known}
    return StreamFacts("support", "main", 600.0, first, **given)


def errors_of(given):
    return [(row.check, row.advice) for row in stream_verdicts.judge(given) if row.status == "error"]


@pytest.mark.parametrize(
    ("given", "check", "advice"),
    [
        (facts(refused(GENERIC)), "stream.credential", "client_id, secret"),
        (facts(refused(GENERIC), expired=refused(GENERIC)), "stream.credential", "client_id, secret"),
        (facts(refused(GENERIC), expired=refused(EXPIRED)), "stream.ids", "stream_id, account_id"),
        (facts(refused("error verifying the jwt: possibly a replay")), "stream.credential", "main.jti"),
        (facts(refused('... if "jti" claim "exp" must be <= 1 hour(s)')), "stream.credential", "token_lifetime"),
        (facts(refused("Invalid JWT token")), "stream.credential", "main.jwe"),
        (facts(refused(EXPIRED), seconds_ahead=7_200.0), "stream.clock", "this machine's clock"),
        (facts(refused(GENERIC), seconds_ahead=7_200.0), "stream.clock", "this machine's clock"),
        (facts(refused(EXPIRED), seconds_ahead=0.2), "stream.credential", "token_lifetime"),
        (facts(refused("Permission denied. Scope is incorrect!")), "stream.scope", "grant"),
        (facts(refused("no", 403)), "stream.scope", "grant"),
        (facts(refused("Invalid StreamId", 400)), "stream.ids", "stream_id"),
        (facts(refused("Validation errors/ Invalid arguments", 412)), "stream.answer", "what answers there"),
        (facts(refused("Rate limit for this API has been reached.", 400)), "stream.limit", "who else"),
        (facts(Failure(Problem.UPSTREAM_TIMEOUT, "no answer in time")), "stream.call", "the platform above"),
    ],
)
def test_a_refusal_names_one_cause(given, check, advice):
    ((named, cure),) = errors_of(given)
    assert (named, advice in cure) == (check, True)


def test_calls_that_are_spent_are_no_error():
    given = facts(Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=12.0), known=60)
    (first, *_) = stream_verdicts.judge(given)
    assert (first.status, first.advice) == ("warning", "ask again in 12 s")


def test_a_connection_that_takes_longer_than_a_gateway_waits_is_an_error():
    late = verdicts.tcp(Check.REDIS_TCP, "redis:6379", Connected(0.4, "10.0.0.1"), 0.25, "cache.timeout")
    assert (late.status, "raise cache.timeout" in late.advice) == ("error", True)
    silent = verdicts.tcp(Check.REDIS_TCP, "redis:6379", Connected(5.0, is_slow=True), 0.25, "cache.timeout")
    assert "firewall" in silent.advice


@pytest.mark.parametrize(
    ("lasts", "left", "status"),
    [
        (timedelta(days=90), timedelta(days=20), "ok"),
        (timedelta(days=90), timedelta(days=10), "warning"),
        (timedelta(days=7), timedelta(days=3), "ok"),
        (timedelta(days=7), timedelta(days=1), "warning"),
    ],
)
def test_a_certificate_that_ends_soon_by_its_own_measure_is_warned_of(lasts, left, status, tmp_path):
    shown = Authority(tmp_path, "Ours").issue("platform", "platform.example", good=(left - lasts, left))
    certificate = x509.load_pem_x509_certificate(shown.cert_file.read_bytes()).public_bytes(Encoding.DER)
    found = verdicts.tls(
        Check.PLATFORM_TLS, "platform", Handshake("TLSv1.3", certificate), "platform.ca_file", time.time()
    )
    assert (found.status, "certificate of platform.example by Ours" in found.found) == (status, True)


def test_a_proxy_that_wants_a_password_says_so():
    assert (
        "password"
        in verdicts.connect(
            "proxy:3128", "platform:443", Tunnel(407, "Proxy Authentication Required"), "platform.proxy"
        ).advice
    )


@pytest.mark.parametrize(
    ("kind", "is_cluster", "check"),
    [
        ("moved", False, "redis.cluster"),
        ("cluster", True, "redis.cluster"),
        ("timeout", True, "redis.cluster"),
        ("timeout", False, "redis.answer"),
        ("loading", False, "redis.answer"),
        ("masterdown", False, "redis.role"),
        ("something new", False, "redis.answer"),
        ("oom", False, "redis.answer"),
    ],
)
def test_a_redis_that_cannot_be_used_is_told_by_its_kind(kind, is_cluster, check):
    found = redis_verdicts.failure("redis:6379", kind, is_cluster=is_cluster)
    assert (found.check, bool(found.advice)) == (check, True)


def test_rights_are_tried_for_every_command_of_the_scripts():
    folder = resources.files("campaign_gateway.store.redis") / "scripts"
    used = {
        name
        for file in folder.iterdir()
        for name in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", file.read_text("utf-8"))
    }
    link = open_link(RedisTarget("redis://127.0.0.1:1/0", 1.0), StoreClock(), CountingMeter())
    tried = {str(row[0]) for row in redis_facts._commands(link)}
    assert len(used) > 15
    assert used <= tried


def test_without_redis_no_more_calls_are_made_than_are_left_to_callers_who_wait():
    allowed = within_reserve(Allowance(calls=60, window=60.0, leave=3.0, timeout=10.0, reserve=5))
    assert (allowed.calls, allowed.reserve) == (5, 0)
