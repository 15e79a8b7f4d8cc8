"""The Helm chart: a real Helm lints, renders and packs it, Kubernetes' own schemas and the gateway's settings judge it."""

import asyncio
import copy
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import msgspec
import promql_parser
import pytest
from ruamel.yaml import YAML

from campaign_gateway import __version__
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.settings import Settings, load, state_folder
from campaign_gateway.settings.reload import SECTIONS
from tests.support.gateway import gateway_process, settings_for
from tests.support.keys import invented_for
from tools import chart as tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "campaign-gateway"
CI = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
CRDS = {path.stem: msgspec.json.decode(path.read_bytes()) for path in (Path(__file__).parent / "crds").glob("*.json")}
OWN = sorted(CI.keys() - {"pod-monitor"})
"""Where the settings are a ConfigMap of the chart, not somebody else's."""
KUBERNETES = ("1.27", "1.32", "1.37")
"""The oldest that the chart says it runs on, and newer ones."""
SECRETS = "/run/secrets/campaign-gateway"
NAME = "demo-campaign-gateway"
NAMESPACES = dict.fromkeys(("ServiceMonitor", "PodMonitor", "PrometheusRule"), ("apps", "monitoring"))
"""Where objects of a kind may be, if that is not the release's namespace."""

Values = dict[str, Any]
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(CHART) as loaded:
        yield loaded


def values_of(name: str) -> Values:
    return helm.values_from_yaml(CI[name].read_text("utf-8"))


def put(values: Values, key: str, value: object) -> Values:
    """The values with one key set; dots lead into maps, `-` as the value removes."""
    values = copy.deepcopy(values)
    *outer, last = key.split(".")
    inner = values
    for part in outer:
        inner = inner.setdefault(part, {})
    if value == "-":
        inner.pop(last)
    else:
        inner[last] = value
    return values


def has(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def rendered(chart: helm.Chart, values: Values) -> dict[str, str]:
    chart.validate_schema(values)
    return chart.render(values, name="demo", namespace="apps")


def manifests(chart: helm.Chart, values: Values) -> list[Manifest]:
    """Every object of a release, read by the YAML parser of Helm, which is that of Kubernetes."""
    found = []
    for name, text in rendered(chart, values).items():
        if not name.endswith("NOTES.txt"):
            found += [helm.values_from_yaml(part) for part in re.split(r"(?m)^---$", text)]
    return [manifest for manifest in found if manifest]


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in objects if manifest["kind"] == kind]


def the(objects: list[Manifest], kind: str, name: str = NAME) -> Manifest:
    [found] = [manifest for manifest in of_kind(objects, kind) if manifest["metadata"]["name"] == name]
    return found


def pod_of(objects: list[Manifest]) -> Manifest:
    [deployment] = of_kind(objects, "Deployment")
    template: Manifest = deployment["spec"]["template"]
    return template


def gateway_of(objects: list[Manifest]) -> Manifest:
    container: Manifest = pod_of(objects)["spec"]["containers"][0]
    assert container["name"] == "gateway"
    return container


def environment_of(objects: list[Manifest]) -> dict[str, str]:
    return {row["name"]: row["value"] for row in gateway_of(objects)["env"] if "value" in row}


def settings_of(objects: list[Manifest], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the gateway makes of its mounted files and its environment, the mounts being under `folder`."""
    [config] = [row for row in of_kind(objects, "ConfigMap") if "gateway.yaml" in row["data"]]
    text = config["data"]["gateway.yaml"]
    for path in mounted_secrets(objects, text):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(invented_for(file))
    for row in gateway_of(objects)["env"]:
        if "valueFrom" in row:
            monkeypatch.setenv(row["name"], "an invented secret of some length")
    (folder / "gateway.yaml").write_text(text.replace(SECRETS, str(folder)))
    return load(folder / "gateway.yaml", environment_of(objects))


def mounted_secrets(objects: list[Manifest], config: str) -> Iterator[str]:
    """The files that the pod finds in the folder of secrets."""
    container, pod = gateway_of(objects), pod_of(objects)["spec"]
    for mount in container["volumeMounts"]:
        if mount["mountPath"] != SECRETS:
            continue
        [volume] = [row for row in pod["volumes"] if row["name"] == mount["name"]]
        for source in volume["projected"]["sources"]:
            secret = source["secret"]
            made = [row["data"] for row in of_kind(objects, "Secret") if row["metadata"]["name"] == secret["name"]]
            if made:
                yield from made[0]
            elif "items" in secret:
                yield from (item["path"] for item in secret["items"])
            else:  # somebody else's secret, with what the settings ask for
                yield from re.findall(rf"{SECRETS}/(\S+)", config)


def judge(manifest: Manifest, version: str) -> None:
    """Raises what Kubernetes, or the kind's own definition, has against an object."""
    if crd := CRDS.get(manifest["kind"].lower()):
        jsonschema.Draft202012Validator(crd).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


# What is good.


@pytest.mark.parametrize("name", CI)
def test_a_good_file_passes_lint(name):
    report = helm.lint(CHART, values_of(name), strict=True, namespace="apps", kube_version="v1.29.0")
    assert report["total_charts_linted"] == 1
    assert [row for row in report["messages"] if row["severity"] > 1] == []
    assert report["errors"] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", CI)
def test_kubernetes_accepts_each_object(chart, name, version):
    objects = manifests(chart, values_of(name))
    assert {"Deployment", "Service", "Pod"} <= {manifest["kind"] for manifest in objects}
    for manifest in objects:
        judge(manifest, version)
        assert (
            manifest["metadata"].get("namespace") in NAMESPACES.get(manifest["kind"], ("apps",))
            or manifest["metadata"]["name"] == "more"
        )


def test_every_kind_is_in_some_file(chart):
    kinds = {manifest["kind"] for name in CI for manifest in manifests(chart, values_of(name))}
    assert kinds == {
        *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "HTTPRoute", "Ingress", "NetworkPolicy", "Pod"),
        *("PodDisruptionBudget", "PrometheusRule", "ScaledObject", "Secret", "Service", "ServiceAccount"),
        *("ServiceMonitor", "PodMonitor"),
    }


@pytest.mark.parametrize("name", OWN)
def test_the_gateway_accepts_its_settings(chart, name, tmp_path, monkeypatch):
    settings = settings_of(manifests(chart, values_of(name)), tmp_path, monkeypatch)
    (listen,) = settings.listen
    assert not listen.is_loopback
    assert not settings.admin_listen.is_loopback
    ports = {port["name"]: port["containerPort"] for port in gateway_of(manifests(chart, values_of(name)))["ports"]}
    assert ports == {"api": listen.port, "admin": settings.admin_listen.port}


@pytest.mark.parametrize("name", OWN)
def test_the_settings_arrive_as_they_were_written(chart, name):
    values = values_of(name)
    [config] = [row for row in of_kind(manifests(chart, values), "ConfigMap") if "gateway.yaml" in row["data"]]
    drain = {"openshift": "12s"}.get(name, "8s")  # by its probe
    written = {**values["config"], "shutdown": {"drain": drain, **values["config"].get("shutdown", {})}}
    assert YAML(typ="safe", pure=True).load(config["data"]["gateway.yaml"]) == written


DOCUMENTED = {".".join(key) for key, _ in tool.described_values((CHART / "values.yaml").read_text("utf-8"))}


@pytest.mark.parametrize("key", sorted(DOCUMENTED))
def test_each_value_has_an_effect(chart, key):
    """So a value that a template misspells, or has forgotten, is found."""
    users = [name for name in CI if has(values_of(name), key)]
    assert users, f"no file in ci/ sets {key}"
    for name in users:
        try:
            without = rendered(chart, put(values_of(name), key, "-"))
        except helm.HelmError:
            return  # it is needed there
        if without != rendered(chart, values_of(name)):
            return
    pytest.fail(f"{key} changes nothing")


@pytest.mark.parametrize("name", CI)
def test_names_inside_a_release_meet(chart, name):
    objects = manifests(chart, values_of(name))
    template = pod_of(objects)
    pod, labels = template["spec"], template["metadata"]["labels"]
    [deployment] = of_kind(objects, "Deployment")
    own = {(row["kind"], row["metadata"]["name"]) for row in objects}
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    for volume in pod["volumes"]:
        if "configMap" in volume and name in OWN:
            assert ("ConfigMap", volume["configMap"]["name"]) in own
    if pod["serviceAccountName"] != "default":
        assert ("ServiceAccount", pod["serviceAccountName"]) in own
    [test] = of_kind(objects, "Pod")
    for service in of_kind(objects, "Service"):
        selector = service["spec"]["selector"]
        assert selector.items() <= labels.items()
        assert not selector.items() <= test["metadata"]["labels"].items()
    for scaler in of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"]
    for guard in of_kind(objects, "PodDisruptionBudget"):
        assert guard["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for constraint in pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()
    for policy in of_kind(objects, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in policy["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= {"api", "admin", 8443}
    for monitor in of_kind(objects, "PodMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ports = {port["name"] for port in gateway_of(objects)["ports"]}
        assert {end["port"] for end in monitor["spec"]["podMetricsEndpoints"]} == {"admin"} <= ports
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        seen = [row for row in of_kind(objects, "Service") if wanted <= row["metadata"]["labels"].items()]
        assert [row["metadata"]["name"] for row in seen] == [f"{NAME}-admin"]
        assert monitor["spec"]["endpoints"][0]["port"] == seen[0]["spec"]["ports"][0]["name"]


# What holds whatever is switched on.


@pytest.mark.parametrize("name", CI)
def test_the_admin_port_is_never_exposed_with_the_api(chart, name):
    objects = manifests(chart, values_of(name))
    services = {row["metadata"]["name"]: row["spec"] for row in of_kind(objects, "Service")}
    [admin] = [service for service in services if service.endswith("-admin")]
    assert services.pop(admin)["clusterIP"] == "None"
    [(api, spec)] = services.items()
    assert [(port["name"], port["targetPort"]) for port in spec["ports"]] == [("http", "api")]
    backends = [
        (path["backend"]["service"]["name"], path["backend"]["service"]["port"])
        for row in of_kind(objects, "Ingress")
        for rule in row["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert all(backend == (api, {"name": "http"}) for backend in backends)
    routes = [
        (backend["name"], backend["port"])
        for row in of_kind(objects, "HTTPRoute")
        for rule in row["spec"]["rules"]
        for backend in rule["backendRefs"]
    ]
    assert all(route == (api, spec["ports"][0]["port"]) for route in routes)
    assert bool(backends) == (name == "ingress")
    assert bool(routes) == (name == "gateway-route")


@pytest.mark.parametrize("name", CI)
def test_every_probe_asks_the_admin_port(chart, name):
    container = gateway_of(manifests(chart, values_of(name)))
    asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


@pytest.mark.parametrize("name", CI)
def test_own_pods_keep_to_the_restricted_standard(chart, name):
    objects = manifests(chart, values_of(name))
    [test] = of_kind(objects, "Pod")
    for pod, containers in (
        (pod_of(objects)["spec"], [gateway_of(objects)]),
        (test["spec"], test["spec"]["containers"]),
    ):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"].get("runAsUser") == (None if name == "openshift" else 10001)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in containers:
            assert not container["securityContext"].get("privileged")
            assert container["securityContext"] | {"privileged": False} == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
            }
            assert {"requests", "limits"} <= container["resources"].keys()
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_no_secret_is_in_the_config_map_or_the_pod(chart):
    objects = manifests(chart, values_of("created-secrets"))
    assert the(objects, "Secret")["data"] == {"client-secret": "aW52ZW50ZWQ="}
    rest = [manifest for manifest in objects if manifest["kind"] != "Secret"]
    assert b"invented" not in msgspec.json.encode(rest)


def test_new_pods_are_started_only_for_settings_that_need_a_restart():
    template = (CHART / "templates" / "_helpers.tpl").read_text("utf-8")
    (omitted,) = re.findall(r"omit \$config ([^)]*)", template)
    assert re.findall(r"\w+", omitted) == [section for section, takes in SECTIONS.items() if takes == "reload"]


def test_a_change_of_settings_or_secrets_replaces_the_pods(chart):
    values = values_of("created-secrets")

    def checksums(values: Values) -> tuple[str, str]:
        annotations = pod_of(manifests(chart, values))["metadata"]["annotations"]
        return annotations["checksum/config"], annotations["checksum/secret"]

    config, secret = checksums(values)
    other_config, same_secret = checksums(put(values, "config.platform", {"timeout": "5s"}))
    assert checksums(put(values, "config.freshness", {"max": "5m"})) == (config, secret)
    assert checksums(put(values, "config.pause", {"max": "5m"})) == (config, secret)
    same_config, other_secret = checksums(put(values, "secrets.create.client-secret", "another"))
    assert (same_config, same_secret) == (config, secret)
    assert other_config != config
    assert other_secret != secret
    assert checksums(put(values, "replicas", 0)) == (config, secret)


@pytest.mark.drill(
    "a pod that stops, and a probe of any period",
    planted="other values for the probe",
    seen="it answers until the probe has noticed, and the whole fits",
)
@pytest.mark.parametrize(
    ("probe", "drain"),
    [
        ({}, 8),
        ({"periodSeconds": 10, "failureThreshold": 3, "timeoutSeconds": 1}, 31),
    ],
)
def test_a_stopping_pod_answers_until_its_probe_has_noticed(chart, probe, drain, tmp_path, monkeypatch):
    values = values_of("default")
    values["probes"] = {"readiness": probe}
    objects = manifests(chart, values)
    assert settings_of(objects, tmp_path, monkeypatch).shutdown.drain == drain
    assert pod_of(objects)["spec"]["terminationGracePeriodSeconds"] == drain + 25


@pytest.mark.parametrize(
    ("shutdown", "seconds"),
    [
        ({}, 33),
        ({"drain": "0ms", "grace": "1m"}, 65),
        ({"drain": "1500ms", "grace": "2.5s"}, 10),
        ({"drain": "1s", "grace": "1h"}, 3606),
    ],
)
def test_a_stopping_pod_has_the_time_that_the_settings_promise(chart, shutdown, seconds):
    values = values_of("default")
    values["config"]["shutdown"] = shutdown
    assert pod_of(manifests(chart, values))["spec"]["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize(
    ("url", "strategy"),
    [
        ("memory://", {"type": "Recreate"}),
        ("unix:///run/redis.sock", {"type": "Recreate"}),
        ("redis://redis:6379/0", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        (
            "redis+cluster://a:6379,b:6379",
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        ),
    ],
)
def test_a_rollout_never_has_two_pods_spend_the_budget_unknown_to_each_other(chart, url, strategy):
    objects = manifests(chart, put(values_of("default"), "config.cache", {"url": url}))
    assert the(objects, "Deployment")["spec"]["strategy"] == strategy


@pytest.mark.parametrize(
    ("name", "change", "replicas"),
    [
        ("default", {}, None),
        ("replicas", {}, "3"),
        ("hpa", {}, "8"),
        ("keda", {}, "6"),
        ("replicas", {"config.cache.replicas": 5}, None),
    ],
)
def test_the_gateway_knows_how_many_share_the_budget(chart, name, change, replicas):
    values = values_of(name)
    for key, value in change.items():
        values = put(values, key, value)
    assert environment_of(manifests(chart, values)).get("GATEWAY__CACHE__REPLICAS") == replicas


@pytest.mark.parametrize("name", ["extras", "replicas"])
@pytest.mark.parametrize(("workers", "has_place"), [(1, False), (2, True)])
def test_only_several_workers_have_a_place_for_their_sockets(chart, name, workers, has_place):
    """For the root is read-only. A lone pod may have workers too, when its Redis is behind a socket on its node."""
    objects = manifests(chart, put(values_of(name), "config.workers", workers))
    place = environment_of(objects).get("TMPDIR")
    mounts = {mount["name"]: mount["mountPath"] for mount in gateway_of(objects)["volumeMounts"]}
    assert mounts.get("run") == place == ("/run/campaign-gateway" if has_place else None)
    volumes = [volume for volume in pod_of(objects)["spec"]["volumes"] if volume["name"] == "run"]
    assert volumes == ([{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}] if has_place else [])


@pytest.mark.parametrize(("name", "guarded"), [("default", False), ("replicas", True), ("hpa", True), ("keda", False)])
def test_only_several_pods_have_a_disruption_budget(chart, name, guarded):
    assert bool(of_kind(manifests(chart, values_of(name)), "PodDisruptionBudget")) is guarded


def test_a_lone_pod_needs_no_redis_in_its_network_policy(chart):
    values = put(values_of("networkpolicy"), "config.cache.url", "memory://")
    [shared] = of_kind(manifests(chart, values_of("networkpolicy")), "NetworkPolicy")
    [alone] = of_kind(manifests(chart, values), "NetworkPolicy")
    ports = [{port["port"] for port in rule["ports"]} for rule in shared["spec"]["egress"]]
    assert ports == [{53, 5353}, {6379, 6390}, {443, 8443}, {9443}, {3128}]
    ports = [{port["port"] for port in rule["ports"]} for rule in alone["spec"]["egress"]]
    assert ports == [{53, 5353}, {443, 8443}, {9443}, {3128}]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://redis:6380/0", {6380}),
        ("redis://redis/0", {6379}),
        ("rediss://user@redis.example:6381/0", {6381}),
        ("redis://[fd00::1]:6380/0", {6380}),
        ("redis+cluster://a:7000,b:7001,c", {7000, 7001, 6379}),
        ("redis+sentinel://a:26380,b:26379/main/0", {26380, 26379, 6379}),
    ],
)
def test_a_policy_allows_the_ports_of_the_cache_s_url(chart, url, ports):
    values = put(values_of("networkpolicy"), "networkPolicy", {"enabled": True})
    # Rendered as it is: whether the settings allow such a URL is their own affair.
    text = chart.render(values | {"config": values["config"] | {"cache": {"url": url}}}, name="demo", namespace="apps")
    [policy] = [helm.values_from_yaml(part) for name, part in text.items() if name.endswith("networkpolicy.yaml")]
    assert {port["port"] for port in policy["spec"]["egress"][1]["ports"]} == ports


@pytest.mark.parametrize(
    ("platform", "ports"),
    [({}, {443}), ({"url": "https://platform.example:8443"}, {8443}), ({"url": "http://127.0.0.1"}, {80})],
)
def test_a_policy_allows_the_platform_s_port_by_ipv4_and_ipv6(chart, platform, ports):
    values = put(put(values_of("networkpolicy"), "networkPolicy", {"enabled": True}), "config.platform", platform)
    rule = the(manifests(chart, values), "NetworkPolicy")["spec"]["egress"][2]
    assert {port["port"] for port in rule["ports"]} == ports
    assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == ["0.0.0.0/0", "::/0"]


def test_a_policy_lets_webhooks_out(chart):
    values = put(values_of("networkpolicy"), "networkPolicy", {"enabled": True})
    webhooks: dict[str, dict[str, str]] = {
        "crm": {"url": "https://crm.example.com/a:b"},
        "mail": {"url": "http://mail:8080/in?to=a/b"},
        "far": {"url": "https://far.example.com", "proxy": "http://proxy:3128"},
    }
    files = {"secret_file": "/run/secrets/campaign-gateway/webhook"}
    webhooks = {name: row | files for name, row in webhooks.items()}
    rules = []
    for rows in ({}, webhooks):
        text = chart.render(put(values, "config.webhooks", rows), name="demo", namespace="apps")
        [policy] = [helm.values_from_yaml(part) for name, part in text.items() if name.endswith("networkpolicy.yaml")]
        rules.append(policy["spec"]["egress"][3:])
    assert rules[0] == [], "nothing is let out for nobody"
    [rule] = rules[1]
    assert rule["to"] == [{"podSelector": {}}]
    assert {port["port"] for port in rule["ports"]} == {443, 8080, 3128}


@pytest.mark.parametrize(("name", "count"), [("ingress", 1), ("gateway-route", 1), ("networkpolicy", 0)])
def test_an_ingress_controller_may_call_where_there_is_an_ingress_or_a_route(chart, name, count):
    values = put(
        put(values_of(name), "networkPolicy.enabled", True), "networkPolicy.ingressController", [{"podSelector": {}}]
    )
    values = put(values, "networkPolicy.callers", [])
    rules = the(manifests(chart, values), "NetworkPolicy")["spec"]["ingress"]
    assert [rule["ports"] for rule in rules].count([{"port": "api"}]) == count


def test_a_second_pod_comes_when_a_pod_is_busy(chart):
    """A worker is one core: a share of the request, a tenth of a core, would add pods to idle ones."""
    [scaler] = of_kind(manifests(chart, put(values_of("hpa"), "autoscaling.targetCPU", "-")), "HorizontalPodAutoscaler")
    assert scaler["spec"]["metrics"][0]["resource"]["target"] == {"type": "AverageValue", "averageValue": "700m"}
    [scaler] = of_kind(manifests(chart, values_of("pod-monitor")), "HorizontalPodAutoscaler")
    assert scaler["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}


def test_settings_may_be_in_a_config_map_of_ones_own(chart):
    objects = manifests(chart, values_of("pod-monitor"))
    [volume] = [volume for volume in pod_of(objects)["spec"]["volumes"] if volume["name"] == "config"]
    assert volume["configMap"] == {"name": "gateway-settings"}
    assert of_kind(objects, "ConfigMap") == []
    assert environment_of(objects)["GATEWAY__CACHE__REPLICAS"] == "5"
    notes = rendered(chart, values_of("pod-monitor"))["campaign-gateway/templates/NOTES.txt"]
    assert "gateway-settings" in notes
    assert "without a key" not in notes


def test_every_file_that_any_setting_names_must_be_mounted(tmp_path):
    """Also of settings that are newer than the chart's checks."""
    shutil.copytree(CHART, tmp_path / "chart")
    (tmp_path / "chart" / "values.schema.json").unlink()
    values = values_of("replicas")
    values["config"]["cache"]["newer"] = {"deep": {"some_file": "/nowhere/password"}}
    says = r"config\.cache\.newer\.deep\.some_file names /nowhere/password, where nothing is mounted"
    with helm.Chart.load(tmp_path / "chart") as chart, pytest.raises(helm.HelmError, match=says):
        chart.render(values, name="demo", namespace="apps")


# What is bad.


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("replicaCount", 2, "replicaCount"),
        ("image.repo", "x", "repo"),
        ("replicas", "two", "/replicas"),
        ("replicas", -1, "/replicas"),
        ("service.port", 0, "/service/port"),
        ("service.type", "Cluster", "/service/type"),
        ("ingress.host", "x.example", "host"),
        ("ingress.hosts", "x.example", "/ingress/hosts"),
        ("image.digest", "sha256:abc", "/image/digest"),
        ("probes.readiness.path", "/livez", "path"),
        ("networkPolicy.redisPorts", [0], "/networkPolicy/redisPorts"),
        ("monitoring.serviceMonitor.interval", "fast", "/monitoring/serviceMonitor/interval"),
        ("podDisruptionBudget.maxUnavailable", 0, "/podDisruptionBudget/maxUnavailable"),
        ("secrets.existing", ["campaign-gateway"], "/secrets/existing"),
        ("secrets.create", {"a/b": "x"}, "/secrets/create"),
        ("httpRoute.timeouts", {"request": "soon"}, "/httpRoute/timeouts"),
        ("extraObjects", [{"kind": "ConfigMap"}], "/extraObjects"),
        ("config.freshnes", {}, "freshnes"),
        ("config.cache.ttl", "5s", "ttl"),
        ("config.platform.timeout", 10, "/config/platform/timeout"),
        ("config.platform.timeout", "10", "/config/platform/timeout"),
        ("config.platform.timeout", "0s", "/config/platform/timeout"),
        ("config.platform.timeout", "10 parsecs", "/config/platform/timeout"),
        ("config.platform.max_body", "4MB", "/config/platform/max_body"),
        ("config.listen", "8080", "/config/listen"),
        ("config.listen", [], "/config/listen"),
        ("config.workers", 0, "/config/workers"),
        ("config.budgets.default.calls", 0, "/config/budgets/default/calls"),
        ("config.credentials.main.algorithm", "none", "/config/credentials/main/algorithm"),
        ("config.streams.support.stream_id", "st 1", "/config/streams/support/stream_id"),
        ("config.streams.über", {"stream_id": "a", "account_id": "b", "credential": "main"}, "über"),
        ("config.clients.reporting.scopes", ["admin"], "/config/clients/reporting/scopes"),
    ],
)
def test_the_schema_refuses(chart, key, value, says):
    with pytest.raises(helm.HelmValuesError) as refused:
        chart.validate_schema(put(values_of("default"), key, value))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("name", "key", "value", "says"),
    [
        ("default", "config", {}, "config.streams is needed"),
        ("default", "config.credentials", "-", "config.credentials is needed"),
        ("default", "config.clients", "-", "config.clients is needed"),
        (
            "default",
            "config.listen",
            "127.0.0.1:8080",
            "config.listen is 127.0.0.1:8080, which nothing outside the pod",
        ),
        (
            "default",
            "config.admin_listen",
            "[::1]:9090",
            "config.admin_listen is [::1]:9090, which nothing outside the pod",
        ),
        ("default", "config.admin_listen", "0.0.0.0:8080", "must have different ports"),
        ("default", "replicas", 2, "config.cache.url is memory://, so each of up to 2 replicas"),
        ("extras", "replicas", 2, "config.cache.url is unix:///var/run/redis/redis.sock, so each of up to 2"),
        ("replicas", "config.cache.state_dir", "/state", "config.cache.state_dir is for memory:// only"),
        ("default", "config.cache", {"state_dir": "state"}, "config.cache.state_dir is state and must be an absolute"),
        ("default", "config.workers", 2, "config.workers is above 1 and config.cache.url is memory://"),
        ("hpa", "config.cache.url", "memory://", "config.cache.url is memory://, so each of up to 8"),
        ("keda", "config.cache.url", "memory://", "config.cache.url is memory://, so each of up to 6"),
        ("replicas", "config.cache.replicas", 2, "config.cache.replicas is 2, but up to 3"),
        ("hpa", "keda", {"enabled": True, "serverAddress": "http://p"}, "exclude each other"),
        ("hpa", "autoscaling.minReplicas", 9, "minReplicas must not be above maxReplicas"),
        ("keda", "keda.serverAddress", "", "keda.serverAddress is needed"),
        ("ingress", "ingress.hosts", [], "ingress.hosts is needed"),
        ("ingress", "ingress.paths", [], "ingress.paths is needed"),
        (
            "pod-monitor",
            "monitoring.serviceMonitor",
            {"enabled": True},
            "exclude each other: every pod would be scraped",
        ),
        ("pod-monitor", "resources.requests", {"cpu": None}, "a share of resources.requests.cpu, which is not set"),
        ("monitoring", "monitoring.rules.alerts", {"Slow": {}}, "alerts.Slow is none of the chart's alerts: Campaign"),
        (
            "monitoring",
            "monitoring.rules.alerts",
            {"CampaignGatewayPaused": {"threshold": 1}},
            "alerts.CampaignGatewayPaused.threshold is set, but this alert has none",
        ),
        ("gateway-route", "httpRoute.parentRefs", [], "httpRoute.parentRefs is needed"),
        (
            "default",
            "terminationGracePeriodSeconds",
            27,
            "at least config.shutdown.drain and grace together, which is 28 s",
        ),
        ("default", "secrets", {}, f"client_secret_file names {SECRETS}/client-secret, which no secret contains"),
        ("created-secrets", "secrets.create", {"other": "x"}, "put client-secret into secrets.create"),
        (
            "default",
            "config.credentials.main.client_secret_file",
            "/run/secrets/x",
            "names /run/secrets/x, where nothing is mounted",
        ),
        ("sentinel-tls", "config.cache.password_file", f"{SECRETS}/redis/pass", "config.cache.password_file names"),
        ("sentinel-tls", "config.cache.tls.key_file", f"{SECRETS}/tls.key", "config.cache.tls.key_file names"),
        ("sentinel-tls", "config.cache.seal", {"key_file": f"{SECRETS}/seal"}, "config.cache.seal.key_file names"),
        (
            "sentinel-tls",
            "config.cache.seal",
            {"key_file": [f"{SECRETS}/redis/password", "/x"]},
            "key_file (2) names /x",
        ),
        ("sentinel-tls", "config.credentials.main.jwe.public_key_file", "/x.pem", "jwe.public_key_file names /x.pem"),
        ("extras", "config.credentials.main.client_secret_env", "NO", "names NO, which neither extraEnv nor"),
    ],
)
def test_the_templates_refuse_what_is_impossible_together(chart, name, key, value, says):
    values = put(values_of(name), "extraEnvFrom", []) if name == "extras" else values_of(name)
    with pytest.raises(helm.HelmRenderError) as refused:
        rendered(chart, put(values, key, value))
    assert says in str(refused.value)


def test_authorities_of_the_image_need_no_mount(chart):
    values = put(values_of("sentinel-tls"), "config.cache.tls", {"ca_file": "/etc/ssl/certs/ca-certificates.crt"})
    assert manifests(chart, values)


def closed(node: Any, path: str = "") -> Iterator[str]:
    """The objects of a schema that name their keys and take others too."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from closed(item, f"{path}/{index}")
    if not isinstance(node, dict):
        return
    if isinstance(node.get("properties"), dict) and node.get("additionalProperties") is not False:
        yield path or "/"
    for key, value in node.items():
        yield from closed(value, f"{path}/{key}")


def test_the_schema_is_closed_and_complete(chart):
    schema = chart.schema
    assert list(closed(schema)) == []
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"].keys() - {"global"} == chart.values.keys()
    assert schema["properties"]["config"]["properties"].keys() == Settings.model_fields.keys()


# What other files say too.


def test_the_schema_of_the_settings_has_not_drifted():
    text = (CHART / "values.schema.json").read_text("utf-8")
    assert text == tool.with_settings(text), "run tools/chart.py"


def test_the_table_of_values_has_not_drifted():
    text = (CHART / "README.md").read_text("utf-8")
    assert text == tool.with_table(text, (CHART / "values.yaml").read_text("utf-8")), "run tools/chart.py"


def test_a_value_without_a_comment_is_refused():
    with pytest.raises(ValueError, match=r"without a comment: b\.c, d$"):
        list(tool.described_values("# One.\na: 1\nb:\n  c: 1\n# Two.\ne:\n  f: 1\nd: 1\n"))


def test_the_first_example_of_the_readme_is_a_tested_file():
    [example] = re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text("utf-8"), re.DOTALL)
    assert helm.values_from_yaml(example) == values_of("default")


def test_the_chart_says_where_it_is_from(chart):
    assert {"home", "icon", "sources", "maintainers"} <= chart.metadata.keys()
    icon = chart.metadata["icon"].removeprefix(f"{chart.metadata['home']}/")
    assert "<svg" in (ROOT / icon).read_text("utf-8")
    links = YAML(typ="safe", pure=True).load(chart.metadata["annotations"]["artifacthub.io/links"])
    assert all((ROOT / link["url"].removeprefix(f"{chart.metadata['home']}/")).is_file() for link in links)


def test_the_versions_are_the_project_s(chart):
    assert chart.version == __version__
    assert chart.metadata["appVersion"] == __version__
    assert (
        gateway_of(manifests(chart, values_of("default")))["image"]
        == f"registry.example/campaign-gateway:{__version__}"
    )


def deployed_groups() -> list[Any]:
    read = YAML(typ="safe", pure=True).load
    return [
        group
        for name in ("rules", "alerts")
        for group in read(ROOT / "deploy" / "prometheus" / f"{name}.yml")["groups"]
    ]


def test_rules_and_dashboard_are_those_of_deploy(chart):
    objects = manifests(chart, values_of("monitoring"))
    values = values_of("monitoring")
    for changed in ("alerts", "alertLabels", "severities"):
        values = put(values, f"monitoring.rules.{changed}", {})
    values = put(values, "monitoring.rules.runbookUrl", "https://git.example/campaign-gateway/deploy/runbook.md")
    assert the(manifests(chart, values), "PrometheusRule")["spec"]["groups"] == deployed_groups()
    assert "{{ $value }}" in str(deployed_groups()), "no alert shows whether Prometheus' own templates survive"
    dashboard = (ROOT / "deploy/grafana/dashboards/campaign-gateway.json").read_text("utf-8")
    assert the(objects, "ConfigMap", f"{NAME}-dashboard")["data"] == {"campaign-gateway.json": dashboard}


def alerts_of(chart: helm.Chart, changes: Values, **rest: Any) -> dict[str, Any]:
    values = put(values_of("monitoring"), "monitoring.rules", {"enabled": True, "alerts": changes, **rest})
    groups = the(manifests(chart, values), "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_each_alert_can_be_switched_off_and_changed(chart):
    names = list(alerts_of(chart, {}))
    assert len(names) > 25
    assert list(alerts_of(chart, {names[3]: {"enabled": False}})) == [*names[:3], *names[4:]]
    assert alerts_of(chart, {name: {"enabled": False} for name in names}) == {}
    change = {"for": "7m", "severity": "critical", "labels": {"team": "a"}}
    for name, rule in alerts_of(chart, dict.fromkeys(names, change)).items():
        assert rule["for"] == "7m", name
        assert rule["labels"] == {"severity": "critical", "team": "a"}, name


def test_all_alerts_can_have_labels_and_severities_of_your_own(chart):
    usual = alerts_of(chart, {})
    assert {rule["labels"]["severity"] for rule in usual.values()} == {"critical", "warning"}
    given = {"alertLabels": {"team": "a", "site": "b"}, "severities": {"critical": "page"}}
    changes = {name: {"severity": "nobody", "labels": {"team": "c"}} for name in list(usual)[:2]}
    for name, rule in alerts_of(chart, changes, **given).items():
        severity = usual[name]["labels"]["severity"]
        own = {"severity": "page" if severity == "critical" else severity, "team": "a"}
        if name in changes:
            own = {"severity": "nobody", "team": "c"}
        assert rule["labels"] == {**usual[name]["labels"], "site": "b", **own}, name


def test_a_threshold_is_changed_in_the_expression_and_what_it_tells(chart):
    usual = {name: rule for name, rule in alerts_of(chart, {}).items() if "threshold" in rule["annotations"]}
    assert len(usual) > 15
    for name, rule in alerts_of(chart, {name: {"threshold": 0.375} for name in usual}).items():
        if name not in usual:
            continue
        old = usual[name]["annotations"]["threshold"]
        count = len(re.findall(rf"\s{re.escape(old)}(?=\s|$)", usual[name]["expr"]))
        assert rule["annotations"]["threshold"] == "0.375", name
        assert rule["expr"].count("0.375") == count >= 1, name
        promql_parser.parse(rule["expr"])


def test_links_to_the_runbook_are_whole_or_none(chart):
    assert not any("runbook_url" in rule["annotations"] for rule in alerts_of(chart, {}).values())
    for name, rule in alerts_of(chart, {}, runbookUrl="https://wiki.example/x").items():
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/x#{name.lower()}"


def test_a_package_stands_on_its_own(chart, tmp_path):
    archive = helm.package(CHART, destination=tmp_path)
    with tarfile.open(archive) as packed:
        names = {member.name for member in packed if member.isfile()}
        assert not any("/ci/" in name for name in names)
        assert all(not member.issym() for member in packed)
    with helm.Chart.load_archive(Path(archive).read_bytes()) as unpacked:
        assert rendered(unpacked, values_of("monitoring")) == rendered(chart, values_of("monitoring"))


def test_every_query_of_the_autoscaler_is_promql(chart):
    trigger = the(manifests(chart, values_of("keda")), "ScaledObject")["spec"]["triggers"][0]
    promql_parser.parse(trigger["metadata"]["query"])
    assert f'service="{NAME}-admin"' in trigger["metadata"]["query"]
    # The value of a latency must not be divided by the number of pods.
    assert trigger["metricType"] == "Value"


async def test_what_helm_test_runs_finds_a_real_gateway_and_misses_a_dead_one(chart, tmp_path):
    """The pod's own commands, against a gateway on loopback in place of the Services."""
    [pod] = of_kind(manifests(chart, values_of("default")), "Pod")
    async with Sandbox() as sandbox, gateway_process(settings_for(sandbox, tmp_path), tmp_path) as gateway:
        places = {f"{NAME}-admin:9090": gateway.admin_url, f"'{NAME}', 80": gateway.url}
        commands = [
            [sys.executable, *container["command"][1:], *container["args"]] for container in pod["spec"]["containers"]
        ]
        for command, (place, url) in zip(commands, places.items(), strict=True):
            host, _, port = url.removeprefix("http://").partition(":")
            assert place in command[-1]
            command[-1] = command[-1].replace(place, f"{host}:{port}" if ":" in place else f"'{host}', {port}")
            subprocess.run(command, check=True, timeout=20)
    for command in commands:
        assert subprocess.run(command, check=False, timeout=20, stderr=subprocess.DEVNULL).returncode != 0


def test_the_doctor_sees_what_the_gateway_sees_and_may_do_no_more(chart):
    objects = manifests(chart, values_of("extras"))
    [test] = of_kind(objects, "Pod")
    pod, gateway = pod_of(objects)["spec"], gateway_of(objects)
    first, doctor = pod["initContainers"]
    assert (first["name"], test["spec"]["containers"][-1]) == ("wait", doctor)
    for key in ("image", "securityContext", "resources", "envFrom"):
        assert doctor[key] == gateway[key]
    assert doctor["env"] == gateway["env"][-1:]
    assert doctor["volumeMounts"] == gateway["volumeMounts"][: len(doctor["volumeMounts"])]
    for spec in (pod, test["spec"]):
        assert {mount["name"] for mount in doctor["volumeMounts"]} <= {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize(("ahead", "is_right", "works"), [(60.0, True, True), (0.0, False, False)])
async def test_a_pod_starts_with_warnings_and_not_with_errors(chart, ahead, is_right, works, tmp_path):
    """The init container's own command, on settings of this machine."""
    doctor = pod_of(manifests(chart, values_of("extras")))["spec"]["initContainers"][-1]
    async with Sandbox(now=lambda: time.time() + ahead) as sandbox:
        settings = settings_for(sandbox, tmp_path)
        if not is_right:
            (tmp_path / "client-secret").write_text("some-other-secret-of-a-fair-length")
        with (tmp_path / "gateway.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(settings, file)
        [script] = doctor["args"]
        assert "/etc/campaign-gateway/gateway.yaml" in script
        script = script.replace("/etc/campaign-gateway", str(tmp_path))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *doctor["command"], script, env={**os.environ, "PATH": path}, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert (process.returncode == 0) is works, output.decode()


# The tour of one who installs it.


def test_tour_the_default_install(chart, tmp_path, monkeypatch):
    objects = manifests(chart, values_of("default"))
    kinds = sorted(manifest["kind"] for manifest in objects)
    assert kinds == ["ConfigMap", "Deployment", "Pod", "Service", "Service", "ServiceAccount"]
    assert the(objects, "Deployment")["spec"]["replicas"] == 1
    settings = settings_of(objects, tmp_path, monkeypatch)
    assert (*map(str, settings.listen), str(settings.admin_listen)) == ("[::]:8080", "[::]:9090")
    assert settings.shutdown.drain == 8
    notes = rendered(chart, values_of("default"))["campaign-gateway/templates/NOTES.txt"]
    assert f"http://{NAME}.apps.svc:80/v1/campaigns/" in notes
    assert "known clients: reporting" in notes
    assert "in memory" in notes
    assert "a volume that is deleted with the pod" in notes


@pytest.mark.parametrize(
    ("name", "path", "source"),
    [
        ("default", "/var/lib/campaign-gateway", {"emptyDir": {}}),
        ("state", "/var/lib/entries", {"persistentVolumeClaim": {"claimName": "campaign-gateway"}}),
    ],
)
def test_a_pod_without_redis_has_a_place_for_what_its_next_container_has_to_find(
    chart, name, path, source, tmp_path, monkeypatch
):
    objects = manifests(chart, values_of(name))
    mounts = {row["mountPath"]: row for row in gateway_of(objects)["volumeMounts"]}
    assert not mounts[path].get("readOnly")
    [volume] = [row for row in pod_of(objects)["spec"]["volumes"] if row["name"] == mounts[path]["name"]]
    assert volume == {"name": volume["name"], **source}
    settings = settings_of(objects, tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", environment_of(objects)["XDG_STATE_HOME"])
    assert state_folder(settings.cache) == Path(path)
    # Entries are kept only where somebody has asked for that.
    assert (settings.cache.state_dir is not None) == (name == "state")


@pytest.mark.parametrize("name", ["replicas", "extras", "sentinel-tls"])
def test_a_pod_with_redis_needs_no_such_place(chart, name):
    volumes = {volume["name"] for volume in pod_of(manifests(chart, values_of(name)))["spec"]["volumes"]}
    assert "state" not in volumes


def test_tour_three_replicas_with_a_secret_of_their_own(chart, tmp_path, monkeypatch):
    objects = manifests(chart, values_of("replicas"))
    assert the(objects, "Deployment")["spec"]["replicas"] == 3
    assert of_kind(objects, "Secret") == []
    [secrets] = [volume for volume in pod_of(objects)["spec"]["volumes"] if volume["name"] == "secrets"]
    assert secrets["projected"] == {"defaultMode": 0o440, "sources": [{"secret": {"name": "campaign-gateway"}}]}
    settings = settings_of(objects, tmp_path, monkeypatch)
    assert settings.cache.replicas == 3
    assert settings.cache.password_file == tmp_path / "redis-password"


def test_tour_sentinels_over_tls(chart, tmp_path, monkeypatch):
    settings = settings_of(manifests(chart, values_of("sentinel-tls")), tmp_path, monkeypatch)
    assert settings.cache.url.startswith("redis+sentinel://")
    assert settings.cache.tls is not None
    assert settings.cache.tls.cert_file == tmp_path / "redis/tls.crt"
    assert settings.credentials["main"].private_key_file == tmp_path / "platform/private.pem"


def test_tour_monitoring(chart):
    objects = manifests(chart, values_of("monitoring"))
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert the(objects, kind)["metadata"]["labels"]["release"] == "prometheus"
    assert the(objects, "ConfigMap", f"{NAME}-dashboard")["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert the(objects, "Service", f"{NAME}-admin")["spec"]["publishNotReadyAddresses"] is True
