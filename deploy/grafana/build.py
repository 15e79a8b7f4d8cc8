"""Writes dashboards/campaign-gateway.json, the dashboard, out of the tables below.

    .venv/bin/python deploy/grafana/build.py

A panel is a row here: its title, the sentence that explains it, and the expressions. The order of the rows gives the
places of the panels. In expressions, `$all` stands for the dashboard's selection of replicas, and `$gateway` for that
of recorded series, which have no label for the replica.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

TARGET = Path(__file__).parent / "dashboards" / "campaign-gateway.json"
WIDTH = 24
"""Columns of Grafana's grid."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GATEWAY = 'namespace=~"$namespace", job="$job"'
ALL = GATEWAY + ', instance=~"$instance"'
GREEN, YELLOW, RED = "green", "#EAB839", "red"


@dataclass(frozen=True)
class Panel:
    """One panel, before it has a place."""

    title: str
    description: str
    unit: str
    targets: Sequence[tuple[str, str]]
    """Expressions and the legend of each."""
    width: int = 8
    kind: str = "timeseries"
    steps: Mapping[float, str] = field(default_factory=dict)
    """Thresholds: from this value on, this colour; a line in a graph, the value's colour in a number."""
    is_stacked: bool = False
    most: float | None = None
    """The top of the axis, where the values have one."""

    @property
    def height(self) -> int:
        """Rows of Grafana's grid."""
        return 4 if self.kind == "stat" else 8


def number(title: str, description: str, unit: str, expression: str, steps: Mapping[float, str]) -> Panel:
    """One number, with its recent course behind it."""
    return Panel(title, description, unit, [(expression, "")], width=4, kind="stat", steps=steps)


def quantiles(metric: str, *shares: float) -> list[tuple[str, str]]:
    """Quantiles of a histogram."""
    rates = f"sum by (le) (rate(campaign_gateway_{metric}_bucket{{$all}}[$__rate_interval]))"
    return [(f"histogram_quantile({share}, {rates})", f"p{share * 100:g}") for share in shares]


def per_second(metric: str, *labels: str, matching: str = "") -> tuple[str, str]:
    """A counter's rate by some of its labels."""
    selector = f"{{$all, {matching}}}" if matching else "{$all}"
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    return f"sum by ({', '.join(labels)}) (rate(campaign_gateway_{metric}{selector}[$__rate_interval]))", legend


def share(part: str, whole: str) -> str:
    """What part of the requests that match `whole` also match `part`; zero where there is none, nothing when idle."""
    rate = "sum(rate(campaign_gateway_requests_total{$all, %s}[$__rate_interval]))"
    return f"({rate % part} or vector(0)) / ({rate % whole} > 0)"


HITS = share('cache=~"hit|stale"', 'cache!="none"')
ERRORS = share('client!="none", status=~"5.."', 'client!="none"')
BUDGET = "sum(max by (namespace, job, account) (campaign_gateway_budget_calls{$all}))"
CAPACITY = "sum(min by (namespace, job, account) (campaign_gateway_budget_capacity{$all}))"
HELD = "max by (namespace, job, account, lane) (campaign_gateway_budget_window_calls{$all})"
EVICTED = 'campaign_gateway_store_operations_total{$all, store="memory", operation="evict"}'
LISTED = "max by (namespace, job, stream, channel, status) (campaign_gateway_campaigns{$all})"
CLOCK = "campaign_gateway_platform_clock"
LATE = "namespace_job:campaign_gateway_served_age_seconds:late_ratio_rate%s{$gateway} / 0.001"

ROWS: Mapping[str, Sequence[Panel]] = {
    "Are callers served, how fresh, at what cost?": [
        number(
            "Requests",
            "Requests answered per second, including refused and failed ones.",
            "reqps",
            "sum(rate(campaign_gateway_requests_total{$all}[$__rate_interval]))",
            {},
        ),
        number(
            "Errors",
            "Share of known clients' requests that got a 5xx; the alert fires at 2 %.",
            "percentunit",
            ERRORS,
            {0.005: YELLOW, 0.02: RED},
        ),
        number(
            "p99 latency",
            "99th percentile of the time from a request's head to its whole answer; the alert fires at 2.5 s.",
            "s",
            quantiles("request_duration_seconds", 0.99)[0][0],
            {1: YELLOW, 2.5: RED},
        ),
        number(
            "p99 age",
            "99th percentile of the age of answers; the freshness objective is 30 minutes.",
            "s",
            quantiles("served_age_seconds", 0.99)[0][0],
            {660: YELLOW, 1800: RED},
        ),
        number(
            "Hit ratio",
            "Share of reads answered without waiting for the platform.",
            "percentunit",
            HITS,
            {},
        ),
        number(
            "Budget used",
            "Calls in the current window, as a share of what the platform allows; polls use what nobody else needs.",
            "percentunit",
            f"sum({HELD}) / {CAPACITY}",
            {},
        ),
        Panel(
            "Requests by what the cache did",
            "Fresh hits, stale answers, misses, revalidated entries, and answers without an entry.",
            "reqps",
            [per_second("requests_total", "cache")],
            is_stacked=True,
        ),
        Panel(
            "Error ratio",
            "Share of known clients' requests that got a 5xx, and the alert's threshold.",
            "percentunit",
            [(ERRORS, "errors")],
            steps={0.02: RED},
        ),
        Panel(
            "Latency of requests",
            "From a request's head to its whole answer; a hit takes about a millisecond, a miss as long as a call.",
            "s",
            quantiles("request_duration_seconds", 0.5, 0.99),
        ),
        Panel(
            "Age of answers",
            "Seconds since the last validation of the entries behind answers.",
            "s",
            quantiles("served_age_seconds", 0.5, 0.99),
        ),
        Panel(
            "Hit ratio over time",
            "Share of reads answered without waiting for the platform.",
            "percentunit",
            [(HITS, "hits")],
            most=1,
        ),
        Panel(
            "Calls in the window",
            "Platform calls in the current window, from the shared ledger, what the platform allows, and the budget.",
            "short",
            [(f"sum({HELD})", "calls"), (CAPACITY, "allowed"), (BUDGET, "budget")],
        ),
    ],
    "Freshness: polls of the list": [
        Panel(
            "Stated bounds",
            "A change of updatedAt is seen within the signal bound, any change within the blind bound.",
            "s",
            [
                ("max by (stream) (campaign_gateway_signal_bound_seconds{$all})", "signal {{stream}}"),
                ("max by (stream) (campaign_gateway_blind_bound_seconds{$all})", "blind {{stream}}"),
            ],
        ),
        Panel(
            "How soon changes are seen",
            "From updatedAt to the stored answer, and the bound; includes campaigns that had no requests.",
            "s",
            [
                *quantiles("change_visible_seconds", 0.5, 0.99),
                ("max by (stream) (campaign_gateway_signal_bound_seconds{$all})", "signal bound {{stream}}"),
            ],
        ),
        Panel(
            "Polls validate answers",
            "1 while a stream's list is trusted and polled often enough; 0 while lifetimes count.",
            "short",
            [("min by (stream) (campaign_gateway_sweep_up{$all})", "{{stream}}")],
            most=1,
        ),
        Panel(
            "Why a list is not trusted",
            "1 for the flaw that the last poll or scan found; empty or 0 while the list is trusted.",
            "short",
            [("max by (stream, flaw) (campaign_gateway_sweep_distrusted{$all})", "{{stream}} {{flaw}}")],
            most=1,
        ),
        Panel(
            "Campaigns in the index",
            "Campaigns that the lists have shown, the most that any replica knows.",
            "short",
            [("max by (stream) (campaign_gateway_sweep_campaigns{$all})", "{{stream}}")],
        ),
        Panel(
            "Replicas that poll a list",
            "With Redis one replica for each stream in use, and none for other streams; without Redis every replica.",
            "short",
            [("sum by (stream) (campaign_gateway_sweep_leading{$all})", "{{stream}}")],
        ),
    ],
    "The account": [
        Panel(
            "Campaigns by state",
            "Campaigns that the lists show, as the replica that knows most of them has them; other is not documented.",
            "short",
            [(f"sum by (status) ({LISTED})", "{{status}}")],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Changes a minute",
            "Entries added to the log of changes, each by one replica; stream.degraded: changes are seen late.",
            "opm",
            [(f"60 * {per_second('campaign_changes_total', 'type')[0]}", "{{type}}")],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Delay of changes",
            "From a campaign's updatedAt until the change was in the log; empty without changes.",
            "s",
            quantiles("change_delay_seconds", 0.5, 0.99),
            width=12,
        ),
        Panel(
            "Subscribers",
            "Callers who listen to changes, on all replicas; one that listens to two streams counts for both.",
            "short",
            [("sum by (stream) (campaign_gateway_subscribers{$all})", "{{stream}}")],
            width=12,
        ),
    ],
    "Freshness objective: 99.9 % of answers younger than 30 minutes": [
        Panel(
            "Burn rate",
            "Rate of late answers, as a multiple of the rate that the month allows; 14.4 over an hour pages.",
            "suffix:x",
            [(LATE % window, window) for window in ("1h", "6h", "3d")],
            width=12,
            steps={1: YELLOW, 14.4: RED},
        ),
        Panel(
            "Answers per second by age",
            "Answers from entries that are at most so many seconds old.",
            "reqps",
            [per_second("served_age_seconds_bucket", "le", matching='le=~"5.0|60.0|600.0|1800.0|[+]Inf"')],
            width=12,
        ),
    ],
    "Cache": [
        Panel(
            "Requests by status",
            "Answers to callers, by HTTP status.",
            "reqps",
            [per_second("requests_total", "status")],
            is_stacked=True,
        ),
        Panel(
            "Reads that joined another's fill",
            "Requests that cost no call because a fill of the same campaign was under way, here or on another replica.",
            "reqps",
            [per_second("collapsed_requests_total", "scope")],
        ),
        Panel(
            "Validations",
            "Reads that confirmed an entry, replaced it, or failed.",
            "ops",
            [per_second("proofs_total", "kind", "outcome")],
        ),
        Panel(
            "Evictions",
            "Entries removed for want of room; the alert fires at one a second and replica.",
            "ops",
            [(f"sum by (instance) (rate({EVICTED}[$__rate_interval]))", "{{instance}}")],
            steps={1: RED},
        ),
        Panel(
            "Entries in the process",
            "Entries in the memory of each replica, all workers together.",
            "short",
            [("sum by (instance) (campaign_gateway_entries{$all})", "{{instance}}")],
        ),
        Panel(
            "Bytes in the process",
            "Bytes of those entries, as counted against cache.local_max_bytes, which applies to each worker.",
            "bytes",
            [("sum by (instance) (campaign_gateway_entries_bytes{$all})", "{{instance}}")],
        ),
    ],
    "Budget, and who spends it": [
        Panel(
            "Calls by reason",
            "Misses, stale entries, client directives, refreshes, polls (sweep), full scans, changes, rotation, hints.",
            "reqps",
            [per_second("upstream_requests_total", "reason")],
            is_stacked=True,
        ),
        Panel(
            "Calls by stream",
            "Calls by the platform application that they were for.",
            "reqps",
            [per_second("upstream_requests_total", "stream")],
            is_stacked=True,
        ),
        Panel(
            "Reads that needed a call, by client",
            "Reads that needed a platform call, or joined one, by client.",
            "reqps",
            [per_second("requests_total", "client", matching='cache=~"miss|revalidated"')],
            is_stacked=True,
        ),
        Panel(
            "Permits requested, by lane",
            "Granted or refused. Interactive: a caller waits and no answer is stored; background: nobody waits.",
            "reqps",
            [per_second("budget_wait_seconds_count", "lane")],
        ),
        Panel(
            "Wait for a permit",
            "99th percentile of the wait for a permit or for its refusal, by lane.",
            "s",
            [(f"histogram_quantile(0.99, {per_second('budget_wait_seconds_bucket', 'le', 'lane')[0]})", "{{lane}}")],
        ),
        Panel(
            "Calls left",
            "Calls that a waiting caller could make now, as seen by each replica.",
            "short",
            [("min by (instance, account) (campaign_gateway_budget_remaining{$all})", "{{instance}} {{account}}")],
        ),
        Panel(
            "Calls in the window, by lane",
            "Writes and interactive serve callers and alert at 90 %; proof (validation) and background use the rest.",
            "short",
            [(f"sum by (lane) ({HELD})", "{{lane}}")],
            is_stacked=True,
        ),
        Panel(
            "Calls that the platform allows",
            "The calls per window that the platform has allowed; below the budget after repeated 429 answers.",
            "short",
            [(BUDGET, "budget"), (CAPACITY, "allowed")],
        ),
        Panel(
            "Pause ends in",
            "Seconds until the pause that the platform requested may end; 0 without a pause.",
            "s",
            [("max by (account) (campaign_gateway_budget_pause_ends_seconds{$all})", "{{account}}")],
        ),
        Panel(
            "Paused, or without the ledger",
            "1 during a pause that the platform requested, or while a replica has lost the shared ledger.",
            "short",
            [
                ("max by (instance) (campaign_gateway_budget_paused{$all})", "paused {{instance}}"),
                ("max by (instance) (campaign_gateway_budget_cut_off{$all})", "cut off {{instance}}"),
            ],
            width=12,
            most=1,
        ),
        Panel(
            "Replicas that share the budget",
            "Replicas in the ledger; should equal the number that run. Each worker counts as one.",
            "short",
            [
                ("max by (instance) (campaign_gateway_budget_replicas{$all})", "seen by {{instance}}"),
                ("count(campaign_gateway_build_info{$all})", "scraped"),
            ],
            width=12,
        ),
    ],
    "Platform": [
        Panel(
            "Calls by outcome",
            "Limited is a 429 in any form; broken is an unusable answer.",
            "reqps",
            [per_second("upstream_requests_total", "outcome")],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Duration of a call",
            "From the permit to the platform's whole answer, or to the time-out.",
            "s",
            quantiles("upstream_request_duration_seconds", 0.5, 0.99),
            width=12,
        ),
        Panel(
            "Credentials refused",
            "Credentials that the platform keeps refusing; they are retried only now and then.",
            "short",
            [("max by (instance) (campaign_gateway_credentials_refused{$all})", "{{instance}}")],
            width=12,
            steps={1: RED},
        ),
        Panel(
            "The platform's clock",
            "Offset from the gateway's clock, and its uncertainty; `/readyz` says which clock is ahead.",
            "s",
            [
                (f"max by (instance) (abs({CLOCK}_offset_seconds{{$all}}))", "off {{instance}}"),
                (f"max by (instance) ({CLOCK}_uncertainty_seconds{{$all}} < Inf)", "uncertainty {{instance}}"),
            ],
            width=12,
            steps={5: RED},
        ),
    ],
    "Writes, purges and hints": [
        Panel(
            "Writes forwarded",
            "Creates, updates, starts, stops and other writes, each sent once.",
            "reqps",
            [per_second("upstream_requests_total", "operation", matching='reason="write"')],
            is_stacked=True,
        ),
        Panel(
            "Writes by outcome",
            "After timeout, unavailable or broken it is unknown whether the write took effect.",
            "reqps",
            [per_second("upstream_requests_total", "outcome", matching='reason="write"')],
            is_stacked=True,
        ),
        Panel(
            "Invalidations",
            "Invalidations of stored answers by writes, purges and hints.",
            "ops",
            [per_second("invalidations_total", "cause")],
        ),
    ],
    "Store": [
        Panel(
            "Store reachable",
            "1 while the replica and all its workers reach Redis; empty if the cache is in the process.",
            "short",
            [("min by (store, instance) (campaign_gateway_store_up{$all})", "{{store}} {{instance}}")],
            width=12,
            most=1,
        ),
        Panel(
            "State on disk",
            "1 while the calls of the window and the entries are on disk for the next start; empty with Redis.",
            "short",
            [("min by (kind, instance) (campaign_gateway_written_down{$all})", "{{kind}} {{instance}}")],
            width=12,
            most=1,
        ),
        Panel(
            "Store operations",
            "Operations on local copies and on Redis.",
            "ops",
            [per_second("store_operations_total", "store", "operation")],
            width=12,
        ),
        Panel(
            "Store operations by outcome",
            "Successes, and failures by kind.",
            "ops",
            [per_second("store_operations_total", "store", "outcome")],
            width=12,
        ),
    ],
    "Process": [
        Panel(
            "CPU",
            "Cores used; a worker is one event loop and cannot use more than one.",
            "short",
            [("sum by (instance) (rate(process_cpu_seconds_total{$all}[$__rate_interval]))", "{{instance}}")],
        ),
        Panel(
            "Memory",
            "Resident memory, all workers together.",
            "bytes",
            [("sum by (instance) (process_resident_memory_bytes{$all})", "{{instance}}")],
        ),
        Panel(
            "Open files",
            "File descriptors, including callers' connections.",
            "short",
            [("sum by (instance) (process_open_fds{$all})", "{{instance}}")],
        ),
        Panel(
            "Running versions",
            "Workers by version (a replica without workers counts as one); two versions during a rollout.",
            "short",
            [("count by (version) (campaign_gateway_build_info{$all})", "{{version}}")],
        ),
        Panel(
            "Time since start",
            "A drop to zero is a restart of at least one worker.",
            "s",
            [("time() - max by (instance) (process_start_time_seconds{$all})", "{{instance}}")],
        ),
        Panel(
            "Background work that failed, log lines dropped, spans lost",
            "Failures of tasks; each is begun again, and is a fault to report. Lines nobody read, spans nobody took.",
            "short",
            [
                (
                    "sum by (task) (increase(campaign_gateway_task_failures_total{$all}[$__rate_interval]))",
                    "{{task}}",
                ),
                (
                    "sum by (instance) (increase(campaign_gateway_log_lines_dropped_total{$all}[$__rate_interval]))",
                    "log lines dropped {{instance}}",
                ),
                (
                    'sum by (instance) (increase(campaign_gateway_spans_total{$all,outcome="lost"}[$__rate_interval]))',
                    "spans lost {{instance}}",
                ),
            ],
        ),
        Panel(
            "Turns of the event loop",
            "The longest turn of a minute, and the one in a thousand; 0.02 s is the design. Each holds up all callers.",
            "s",
            [
                ("max by (instance) (campaign_gateway_loop_blocked_longest_seconds{$all})", "longest {{instance}}"),
                *quantiles("loop_blocked_seconds", 0.999),
            ],
        ),
        Panel(
            "Connections of callers",
            "Open ones, those refused for want of file descriptors, and those ended because nobody read the answer.",
            "short",
            [
                ("sum by (instance) (campaign_gateway_connections{$all})", "open {{instance}}"),
                (
                    "sum by (instance) (increase(campaign_gateway_connections_refused_total{$all}[$__rate_interval]))",
                    "refused {{instance}}",
                ),
                (
                    "sum by (instance) (increase(campaign_gateway_connections_unread_total{$all}[$__rate_interval]))",
                    "not read {{instance}}",
                ),
            ],
        ),
        Panel(
            "Time until certificates expire",
            "Of each setting that names a certificate; empty without any. An alert fires below 14 days.",
            "s",
            [
                (
                    "min by (setting, instance) (campaign_gateway_certificate_expiry_timestamp_seconds{$all}) - time()",
                    "{{setting}} {{instance}}",
                )
            ],
        ),
        Panel(
            "Settings in use",
            "The generation that each replica goes by, and since when; 0 under `accepted`: it refuses newer ones.",
            "short",
            [
                ("campaign_gateway_settings_generation{$all}", "generation {{instance}}"),
                ("campaign_gateway_config_last_reload_successful{$all}", "accepted {{instance}}"),
                (
                    "(time() - campaign_gateway_config_last_reload_success_timestamp_seconds{$all}) / 3600",
                    "hours since it was read {{instance}}",
                ),
            ],
        ),
        Panel(
            "Client keys",
            "Time since each client's key was last used, and until it expires. Below 14 days an alert fires.",
            "s",
            [
                (
                    "time() - max by (client, key) (campaign_gateway_client_key_last_used_timestamp_seconds{$all} > 0)",
                    "{{client}} {{key}}: last used",
                ),
                (
                    "min by (client, key) (campaign_gateway_client_key_expiry_timestamp_seconds{$all}) - time()",
                    "{{client}} {{key}}: expires in",
                ),
            ],
        ),
        Panel(
            "Workers up and restarted",
            "Workers that answered the scrape, and workers that replaced one that ended; empty without workers.",
            "short",
            [
                ("campaign_gateway_workers_up{$all}", "up {{instance}}"),
                (
                    "sum by (instance) (increase(campaign_gateway_worker_restarts_total{$all}[$__rate_interval]))",
                    "restarted {{instance}}",
                ),
            ],
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": "campaign-gateway",
        "title": "Campaign gateway",
        "description": "Are callers served, how fresh, and at what cost?",
        "tags": ["campaign-gateway"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": _placed(),
    }


def _variables() -> list[dict[str, Any]]:
    def label(name: str, selector: str, **options: Any) -> dict[str, Any]:
        query = f"label_values(campaign_gateway_build_info{selector}, {name})"
        return {
            "name": name,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            **options,
        }

    everything: dict[str, Any] = {
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "data source"},
        label("namespace", "", **everything),
        label("job", '{namespace=~"$namespace"}'),
        label("instance", f"{{{GATEWAY}}}", **everything),
    ]


def _placed() -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        placed.append({"id": len(placed) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place})
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = panel.height
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_rendered(panel)})
            x += panel.width
        y += height
    return placed


def _rendered(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.steps.items()]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        options: dict[str, Any] = {
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    else:
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.is_stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": expression.replace("$all", ALL).replace("$gateway", GATEWAY),
                "legendFormat": legend,
                "range": True,
            }
            for number, (expression, legend) in enumerate(panel.targets)
        ],
    }


def text() -> bytes:
    """The file's contents."""
    return msgspec.json.format(msgspec.json.encode(dashboard()), indent=2) + b"\n"


if __name__ == "__main__":
    TARGET.write_bytes(text())
