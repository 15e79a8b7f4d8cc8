import json

import pytest

from campaign_gateway.doctor import Diagnosis, Style, lines_of
from campaign_gateway.doctor.findings import Check, error, ok, skipped, warning

GOOD = ok(Check.PLATFORM_TCP, "platform.example:443", "connected")
ODD = warning(Check.REDIS_EVICTION, "redis:6379", "maxmemory-policy is allkeys-lru", "set maxmemory-policy noeviction")
BAD = error(Check.STREAM_SCOPE, "støtte", "status 401", "grant the app the scope")
UNTRIED = skipped(Check.STREAM_IDS, "støtte", "not known")
MISTAKE = error(Check.SETTINGS, "listne", "unknown key", "did you mean listen?")


@pytest.mark.parametrize(
    ("findings", "code"),
    [([GOOD], 0), ([GOOD, UNTRIED], 0), ([GOOD, ODD], 3), ([ODD, BAD], 1), ([MISTAKE], 2)],
    ids=["works", "works without all", "warnings", "fails", "settings"],
)
def test_the_exit_code_is_that_of_the_worst(findings, code):
    diagnosis = Diagnosis(findings)
    assert diagnosis.exit_code == code
    document = json.loads(json.dumps(diagnosis.as_document()))
    assert (document["ok"], document["exit"], document["probe"]) == (code in {0, 3}, code, {})
    assert [set(row) for row in document["findings"]] == [{"check", "subject", "status", "found", "advice"}] * len(
        findings
    )


def test_a_finding_is_one_line_and_what_to_do_is_one_more():
    assert [line for row in (GOOD, ODD, BAD, UNTRIED) for line in lines_of(row, Style())] == [
        "✓ platform.tcp       platform.example:443: connected",
        "⚠ redis.eviction     redis:6379: maxmemory-policy is allkeys-lru",
        "  → set maxmemory-policy noeviction",
        "✗ stream.scope       støtte: status 401",
        "  → grant the app the scope",
        "· stream.ids         støtte: not known",
    ]


def test_a_terminal_without_unicode_gets_ascii_and_one_with_colours_gets_them():
    lines = list(lines_of(BAD, Style(is_unicode=False)))
    assert lines == ["FAIL stream.scope       st?tte: status 401", "     -> grant the app the scope"]
    assert next(lines_of(GOOD, Style(has_colours=True))).startswith("\x1b[32m✓\x1b[0m platform.tcp")
