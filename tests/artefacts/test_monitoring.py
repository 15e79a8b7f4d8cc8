"""Rules, alerts and dashboard, held against what a real gateway exports and a real Prometheus makes of it."""

import asyncio
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import ROOT, GatewayProcess, gateway_process, settings_for
from tests.support.prometheus import RULES, Prometheus, program, prometheus_server
from tests.support.redis_server import redis_server
from tests.support.tls import Authority

# The live gateway and Prometheus are started once, by whichever test comes first.
pytestmark = pytest.mark.timeout(180)

DEPLOY = ROOT / "deploy"
RUNBOOK = "https://git.example/campaign-gateway/deploy/runbook.md"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "campaign-gateway.json"
TESTS = sorted((RULES / "tests").glob("*.yml"))
PREFIX = "campaign_gateway_"
JOB, KEY = "campaign-gateway", "monitoring-test-key"
TARGET_LABELS = frozenset({"namespace", "job", "instance"})
"""What Prometheus puts on each series; `namespace` comes from discovery in a cluster and is empty elsewhere."""


# --- what the files say


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of a file, in order."""
    groups = YAML(typ="safe", pure=True).load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED, ALERTS = rules("rules.yml"), rules("alerts.yml")


@dataclass(frozen=True)
class Expression:
    """One expression of a file, and the labels that the words around it use."""

    where: str
    text: str
    used: frozenset[str] = frozenset()


def panels() -> list[dict[str, Any]]:
    return [panel for panel in msgspec.json.decode(DASHBOARD.read_bytes())["panels"] if panel["type"] != "row"]


def filled(text: str, job: str = JOB) -> str:
    """A panel's expression with the dashboard's variables as Grafana fills them in."""
    values = {"$__rate_interval": "10s", "$namespace": ".*", "$instance": ".*", "$job": job}
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def expressions() -> Iterator[Expression]:
    for rule in RECORDED:
        yield Expression(rule["record"], rule["expr"])
    for rule in ALERTS:
        words = " ".join(rule["annotations"].values())
        yield Expression(rule["alert"], rule["expr"], frozenset(re.findall(r"\$labels\.(\w+)", words)))
    for panel in panels():
        for target in panel["targets"]:
            legend = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield Expression(f"{panel['title']} {target['refId']}", filled(target["expr"]), legend)


EXPRESSIONS = list(expressions())
every_expression = pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda expression: expression.where)


# --- what a real gateway exports


@dataclass
class Live:
    """What was seen of a gateway with traffic of every kind, and of a Prometheus that scraped it."""

    labels: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """Of each exported series name: its labels, and their values."""
    families: set[str] = field(default_factory=set)
    answers: dict[str, list[dict[str, Any]] | str] = field(default_factory=dict)
    """Of each expression: its series on the live server, or the error."""
    rules: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    return asyncio.run(look(tmp_path_factory.mktemp("live")))


async def look(folder: Path) -> Live:
    seen = Live()
    clients = {
        "reporting": {
            "key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "streams": ["support"],
            "scopes": ["read", "write", "purge"],
        },
        "watching": {
            "keys": [
                {"sha256": hashlib.sha256(KEY[::-1].encode()).hexdigest(), "note": "old", "expires": "2999-01-01"}
            ],
            "streams": ["support"],
            "scopes": ["read"],
        },
    }
    freshness = {"factor": 0.0, "min": "1s", "max": "1s", "default": "1s", "missing": "0s", "status": {}}
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(SandboxConfig(campaigns=20, calls=1000)))
        redis = await stack.enter_async_context(redis_server(folder))
        settings = settings_for(
            sandbox,
            folder,
            cache={"url": redis.url},
            clients=clients,
            freshness=freshness,
            budgets={"default": {"calls": 600, "window": "60s", "reserve": 5}},
        )
        # A certificate that is good for long, and that nobody is asked for here.
        authority = Authority(folder, "authority", (timedelta(), timedelta(days=90)))
        settings["platform"]["ca_file"] = str(authority.file)
        # A webhook whose target nobody has to be: nothing changes here.
        (folder / "webhook").write_text(KEY)
        settings["webhooks"] = {"crm": {"url": "http://127.0.0.1:9/", "secret_file": str(folder / "webhook")}}
        gateway = await stack.enter_async_context(gateway_process(settings, folder))
        # A second replica, which is several workers.
        several = await stack.enter_async_context(
            gateway_process({**settings, "workers": 2}, folder, {"TMPDIR": str(folder)})
        )
        # A third one that is on its own, writes down what a restart has to find, and shows a certificate.
        own = Authority(folder, "authority").issue("own", "127.0.0.1")
        tls = {"cert_file": str(own.cert_file), "key_file": str(own.key_file)}
        alone = await stack.enter_async_context(
            gateway_process({**settings, "cache": {"state_dir": str(folder / "state")}, "tls": tls}, folder)
        )
        targets = {JOB: [gateway.admin_url, several.admin_url, alone.admin_url]}
        prometheus = await stack.enter_async_context(prometheus_server(folder, targets))
        await traffic(gateway, sandbox)
        await scraped(prometheus, 2)
        # A second time: what has just appeared counts from zero only at its second scrape.
        await traffic(gateway, sandbox)
        await scraped(prometheus, 3)
        for expression in EXPRESSIONS:
            try:
                seen.answers[expression.where] = await prometheus.query(expression.text)
            except ValueError as error:
                seen.answers[expression.where] = str(error)
        seen.rules = [rule for group in (await prometheus.api("rules"))["groups"] for rule in group["rules"]]
        pages = [await gateway.metrics(), await several.metrics(), await alone.metrics()]
    for metric in chain.from_iterable(map(text_string_to_metric_families, pages)):
        seen.families.add(metric.name)
        for sample in metric.samples:
            values = seen.labels.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return seen


async def traffic(gateway: GatewayProcess, sandbox: Sandbox) -> None:
    """Hits, misses, stale answers, directives, writes, changes, callers without a key, and a platform that fails in each way."""
    key = {"Authorization": f"Bearer {KEY}"}
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    await asyncio.gather(*(gateway.get(ids[0], **key) for _ in range(5)))
    # So many that their list is worth polling.
    await asyncio.gather(*(gateway.get(id_, **key) for id_ in ids[5:15]))
    for _ in range(3):
        await gateway.get(ids[0], **key)
    await gateway.get(ids[0], **key, Cache_Control="no-cache")
    await gateway.get(ids[0])
    assert (await gateway.get("no-such-campaign", **key))[0] == 404
    for number, fault in enumerate(("bad-gateway", "html-200", "hang", "reset"), 1):
        sandbox.faults.add(fault)
        assert (await gateway.get(ids[number], **key))[0] in {502, 504}
        sandbox.faults.clear()
    for faults in ((), ("hang",)):
        for fault in faults:
            sandbox.faults.add(fault)
        async with gateway.session.post(f"{gateway.url}/v1/campaigns/{ids[0]}/start?type=voice", headers=key):
            sandbox.faults.clear()
    async with gateway.session.post(
        f"{gateway.url}/v1/purge", json={"all": True}, headers={"Authorization": f"Bearer {KEY[::-1]}"}
    ) as refused:
        assert refused.status == 403
    # A change that the next read shows.
    sandbox.campaigns.edit(ids[0], {"description": "changed"})
    async with gateway.session.post(f"{gateway.url}/v1/purge", json={"all": True}, headers=key) as purged:
        assert purged.status == 200
    await asyncio.sleep(1.1)
    assert (await gateway.get(ids[0], **key))[0] == 200


async def scraped(prometheus: Prometheus, times: int) -> None:
    """Waits until it has scraped each gateway so many times more, and evaluated the rules on that."""
    query = f'min(sum_over_time(up{{job="{JOB}"}}[1h]))'

    async def count() -> float:
        rows = await prometheus.query(query)
        return float(rows[0]["value"][1]) if rows else 0

    async with asyncio.timeout(20):
        wanted = await count() + times
        while await count() < wanted:
            await asyncio.sleep(0.2)


# --- the labels of an expression


class Meaning:
    """What an expression yields, by what the gateway exports: used to find names, labels and values that are not."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._recorded = {rule["record"]: rule["expr"] for rule in RECORDED}

    def labels(self, node: Any) -> frozenset[str]:
        """The labels that its series carry.

        Raises:
            AssertionError: it names a metric, a label or a label's value that is not exported.
        """
        match node:
            case promql.VectorSelector():
                return self._selected(node)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.BinaryExpr():
                return self._joined(node)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self.labels(node.expr)
            case promql.Call():
                found: frozenset[str] = frozenset().union(*(self.labels(argument) for argument in node.args))
                if node.func.name == "histogram_quantile":
                    assert "le" in found, "a quantile needs the label le"
                    return found - {"le"}
                return frozenset() if node.func.name == "absent" else found
            case promql.NumberLiteral() | promql.StringLiteral():
                return frozenset()
            case _:
                raise AssertionError(f"an expression of a kind that this test does not know: {node!r}")

    def _selected(self, selector: promql.VectorSelector) -> frozenset[str]:
        name = selector.name
        assert name, "a selector without a metric's name"
        matchers = list(selector.matchers.matchers)
        if name in self._recorded:
            known = self.labels(promql.parse(self._recorded[name]))
            assert {matcher.name for matcher in matchers} <= known, f"{name} has only the labels {sorted(known)}"
            return known
        if name == "up":
            exported: Mapping[str, set[str]] = {}
        else:
            assert name in self._live.labels, f"no gateway exports {name}"
            exported = self._live.labels[name]
        known = TARGET_LABELS | exported.keys()
        for matcher in matchers:
            assert matcher.name in known, f"{name} has no label {matcher.name}, only {sorted(known)}"
            if matcher.name not in exported:
                continue
            is_pattern = str(matcher.op) in {"MatchOp.Re", "MatchOp.NotRe"}
            for value in matcher.value.split("|") if is_pattern else [re.escape(matcher.value)]:
                values = exported[matcher.name]
                assert any(re.fullmatch(value, one) for one in values), f"{name} has no {matcher.name} like {value}"
        return known

    def _aggregated(self, node: promql.AggregateExpr) -> frozenset[str]:
        inner = self.labels(node.expr)
        if node.modifier is None:
            return frozenset()
        named = frozenset(node.modifier.labels)
        assert named <= inner, f"by labels that are not there: {sorted(named - inner)}"
        return named if node.modifier.type == promql.AggModifierType.By else inner - named

    def _joined(self, node: promql.BinaryExpr) -> frozenset[str]:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        if _is_scalar(node.lhs) or _is_scalar(node.rhs):
            return left | right
        matching = node.modifier.matching if node.modifier is not None else None
        if matching is not None:
            on = frozenset(matching.labels)
            assert on <= left & right, f"matched on labels that are not on both sides: {sorted(on - (left & right))}"
        elif not _is_constant(node.rhs):
            assert left == right, f"never match: {sorted(left)} on the left, {sorted(right)} on the right"
        return left


def _is_scalar(node: Any) -> bool:
    """A number, which has no labels to be matched by."""
    if isinstance(node, promql.BinaryExpr):
        return _is_scalar(node.lhs) and _is_scalar(node.rhs)
    return isinstance(node, promql.NumberLiteral) or (isinstance(node, promql.Call) and node.func.name == "time")


def _is_constant(node: Any) -> bool:
    """`vector(0)`: what takes the place of a sum of nothing."""
    return isinstance(node, promql.Call) and node.func.name == "vector"


@every_expression
def test_an_expression_names_only_what_a_gateway_exports(live: Live, expression: Expression) -> None:
    labels = Meaning(live).labels(promql.parse(expression.text))
    assert expression.used <= labels, f"words around it use {sorted(expression.used - labels)}, which it has not"


def test_every_metric_is_looked_at_by_a_panel_or_an_alert(live: Live) -> None:
    exported = {name for name in live.families if name.startswith(PREFIX) and not name.endswith("_created")}
    assert len(exported) > 15
    looked_at = {name.removeprefix(PREFIX) for name in re.findall(rf"{PREFIX}\w+", " ".join(_told()))}
    for name in exported:
        own = name.removeprefix(PREFIX)
        assert any(re.fullmatch(rf"{own}(_total|_bucket|_count|_sum|_info)?", one) for one in looked_at), name


def _told() -> Iterator[str]:
    """The text of all panels and alerts, and of the recording rules that they use."""
    texts = [one.text for one in EXPRESSIONS if ":" not in one.where]
    yield from texts
    yield from (rule["expr"] for rule in RECORDED if any(rule["record"] in text for text in texts))


@every_expression
def test_a_live_prometheus_takes_every_expression(live: Live, expression: Expression) -> None:
    assert not isinstance(live.answers[expression.where], str), live.answers[expression.where]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_shows_something_on_a_live_gateway(live: Live, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        rows = live.answers[f"{panel['title']} {target['refId']}"]
        assert rows, f"no data for {target['expr']}"
        assert any(row["value"][1] != "NaN" for row in rows if isinstance(row, dict))


def test_all_rules_are_loaded_and_none_fails_or_fires_on_a_gateway_that_has_just_started(live: Live) -> None:
    assert len(live.rules) == len(RECORDED) + len(ALERTS)
    assert {rule["name"]: rule["health"] for rule in live.rules if rule["health"] != "ok"} == {}
    assert {rule["name"] for rule in live.rules if rule.get("state") == "firing"} == set()


# --- the files among themselves


@pytest.mark.parametrize("name", ["rules.yml", "alerts.yml"])
def test_promtool_finds_the_rules_in_order(name: str) -> None:
    told(program("promtool"), "check", "rules", "--lint-fatal", str(RULES / name))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_promtool_runs_the_rules_own_tests(path: Path) -> None:
    told(program("promtool"), "test", "rules", str(path))


def told(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_an_alert_is_tested_firing_and_not_firing(alert: str) -> None:
    tests = [test for path in TESTS for test in YAML(typ="safe", pure=True).load(path.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == alert]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.parametrize("record", [rule["record"] for rule in RECORDED])
def test_a_recording_rule_is_tested_with_and_without_traffic(record: str) -> None:
    tests = [test for path in TESTS for test in YAML(typ="safe", pure=True).load(path.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("promql_expr_test", ()) if record in case["expr"]]
    assert any(case["exp_samples"] for case in cases)
    if re.search("p50|p99|ratio_rate", record):
        assert any(not case["exp_samples"] for case in cases)


def test_every_alert_has_its_words_and_a_section_of_the_runbook_and_no_section_is_left_over() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"]) - {"threshold"}, rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOK}#{rule['alert'].lower()}"
    sections = re.split(r"^## ", (DEPLOY / "runbook.md").read_text(), flags=re.MULTILINE)[1:]
    assert [section.partition("\n")[0] for section in sections] == [rule["alert"] for rule in ALERTS]
    for section in sections:
        assert re.findall(r"^\*\*([^*]+):\*\*", section, re.MULTILINE) == ["Means", "Look at", "Do"], section


@pytest.mark.parametrize(
    "rule", [rule for rule in ALERTS if "threshold" in rule["annotations"]], ids=lambda rule: rule["alert"]
)
def test_a_threshold_is_the_number_that_the_expression_compares_with(rule: dict[str, Any]) -> None:
    """So the chart can set another one, and no text of the alert says the number that was."""
    number = re.escape(rule["annotations"]["threshold"])
    found = re.findall(rf"(\S+)\s+{number}(?=\s|$)", rule["expr"])
    assert found
    assert set(found) <= {">", "*"}
    assert not re.search(rf"(?<![\d.]){number}(?![\d.])", rule["annotations"]["description"])


def test_the_runbook_names_only_panels_that_there_are() -> None:
    text = re.sub(r"\*\*.*?\*\*", "", (DEPLOY / "runbook.md").read_text())
    titles = [panel["title"] for panel in panels()]
    named = [" ".join(name.split()) for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*", text)]
    assert named
    for name in named:
        assert any(title.startswith(name) for title in titles), name


def test_a_recorded_name_tells_the_labels_that_are_kept(live: Live) -> None:
    for rule in RECORDED:
        level, metric, operation = rule["record"].split(":")
        kept = Meaning(live).labels(promql.parse(rule["expr"]))
        assert set(level.split("_")) == kept
        assert metric.startswith(PREFIX)
        assert operation


def test_nothing_mixes_two_gateways(live: Live) -> None:
    """Every rule and alert keeps the namespace and the job; every panel asks for one job."""
    for rule in (*RECORDED, *ALERTS):
        kept = Meaning(live).labels(promql.parse(rule["expr"]))
        assert {"namespace", "job"} <= kept or rule.get("alert") == "CampaignGatewayAbsent"
    for panel in panels():
        for target in panel["targets"]:
            for selector in _selectors(promql.parse(filled(target["expr"]))):
                chosen = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
                assert chosen.get("job") == JOB, target["expr"]
                assert "namespace" in chosen
                assert "instance" in chosen or ":" in (selector.name or ""), target["expr"]


def _selectors(node: Any) -> Iterator[promql.VectorSelector]:
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from _selectors(argument)
    elif isinstance(node, promql.BinaryExpr):
        yield from _selectors(node.lhs)
        yield from _selectors(node.rhs)
    elif hasattr(node, "expr"):
        yield from _selectors(node.expr)


# --- the dashboard


def test_no_panel_works_out_calls_from_what_is_left() -> None:
    """In a pause nothing is left, whatever was called: the calls have a gauge of their own."""
    for panel in panels():
        for target in panel["targets"]:
            assert not re.search(r"-[^-]*budget_remaining|budget_remaining[^-]*-[^-]*budget", target["expr"]), panel[
                "title"
            ]


@pytest.mark.parametrize("word", ["p99 latency", "evictions", "hit ratio", "errors", "pause"])
def test_a_panel_is_found_by_the_word_that_one_searches_for(word: str) -> None:
    assert any(word in panel["title"].lower() for panel in panels())


def test_the_dashboard_is_what_its_script_makes(tmp_path: Path) -> None:
    script = DEPLOY / "grafana" / "build.py"
    # Grafana's own export is no source: change build.py and run it.
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import runpy, sys; sys.stdout.buffer.write(runpy.run_path({str(script)!r})['text']())",
        ],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert made.stdout == DASHBOARD.read_bytes(), f"run {script.relative_to(ROOT)}"


def test_every_panel_explains_itself_and_none_hides_another() -> None:
    document = msgspec.json.decode(DASHBOARD.read_bytes())
    cells: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        own = {(x, y) for x in _span(place["x"], place["w"]) for y in _span(place["y"], place["h"])}
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
    for panel in panels():
        assert re.fullmatch(r"[^.]+.*\.", panel["description"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        if panel["type"] != "stat":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def _span(start: int, length: int) -> Sequence[int]:
    return range(start, start + length)


def test_the_picture_says_what_it_is() -> None:
    picture = (DEPLOY / "grafana" / "dashboard.svg").read_text("utf-8")
    assert "Drawn from Prometheus by deploy/picture, not a Grafana screenshot." in picture
    assert len(picture) < 200_000
    first = [panel["title"] for panel in panels()[:12]]
    assert all(f">{title}<" in picture for title in first)
