"""The compose stack: its parts fit each other, and its settings run; `make image` runs it in containers."""

import asyncio
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from ruamel.yaml import YAML

from campaign_gateway.sandbox.config import DEMO_ACCOUNT_ID, DEMO_CLIENT_ID, DEMO_SECRET, DEMO_STREAM_ID
from campaign_gateway.settings import Settings, SettingsError, read_tree
from tests.support.gateway import GatewayProcess, gateway_process
from tests.support.keys import invented_for
from tests.support.redis_server import redis_server
from tests.support.tls import Authority
from tests.support.wire import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = sorted((DEPLOY / "settings").glob("*.yaml"))
DEMO_KEY = "demo-only-client-key"
SECRETS = "/run/secrets/"


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


COMPOSE = read(DEPLOY / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
GATEWAYS = {name: service for name, service in SERVICES.items() if name.startswith("gateway-")}


def tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def run(*words: str | Path) -> None:
    result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=50)
    assert result.returncode == 0, result.stdout + result.stderr


def mounts(service: dict[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Source on the machine, place in the container, mode."""
    for text in service.get("volumes", []):
        source, place, *mode = text.split(":")
        if source.startswith("."):
            yield (DEPLOY / source).resolve(), place, "".join(mode)


def inside(service: dict[str, Any], path: str) -> Path:
    """The file on the machine that a path in the service's container means."""
    for source, place, _ in mounts(service):
        if path == place or path.startswith(place + "/"):
            return source / path[len(place) :].strip("/")
    if path.startswith(SECRETS) and path.removeprefix(SECRETS) in service["secrets"]:
        file: str = COMPOSE["secrets"][path.removeprefix(SECRETS)]["file"]
        return DEPLOY / file
    raise AssertionError(f"nothing is mounted at {path}")


# Form


def test_all_yaml_is_clean():
    run(tool("yamllint"), "--strict", ".")


def test_the_files_are_valid_compose():
    files = ("deploy/compose.yaml", "deploy/examples/compose.yaml")
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files)


def test_prometheus_takes_its_settings_and_rules():
    promtool = shutil.which("promtool")
    assert promtool, "run tools/setup-artefacts"
    run(promtool, "check", "config", "deploy/prometheus/prometheus.yml")


# Hardening


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_rights_it_needs_and_no_more(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & service.keys()
    assert service.get("user", "1:1").split(":")[0] != "0"
    assert all(mode == "ro" for _, _, mode in mounts(service))
    assert "mem_limit" in service


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_no_two_services_want_one_port():
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published)) == 7


def test_the_store_can_be_reached_from_inside_only():
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert SERVICES["valkey"]["networks"] == ["inside"]
    assert "ports" not in SERVICES["valkey"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_ours_or_has_a_full_version(name):
    service = SERVICES[name]
    if "build" in service:
        assert (DEPLOY / service["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
        assert service["image"] == "campaign-gateway:local"
    else:
        assert re.fullmatch(r"docker\.io/[a-z]+/[a-z]+:v?\d+\.\d+\.\d+(-alpine)?", service["image"])


def test_no_secret_stands_in_the_file_or_in_the_settings():
    texts = "".join(path.read_text() for path in [DEPLOY / "compose.yaml", *SETTINGS])
    for secret in COMPOSE["secrets"].values():
        path = DEPLOY / secret["file"]
        assert path.name.startswith("demo-"), "what is in the repository is known to everyone, and says so"
        for line in path.read_text().split():
            assert len(line) < 8 or line not in texts


# The parts fit


def test_what_is_mounted_or_referred_to_exists():
    for service in SERVICES.values():
        for source, _, _ in mounts(service):
            assert source.exists(), source
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
    for secret in COMPOSE["secrets"].values():
        assert (DEPLOY / secret["file"]).read_text().strip()
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()


def test_each_service_is_waited_for_by_its_health():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            checked = "healthcheck" in SERVICES[other] or other in GATEWAYS
            assert checked, f"{name} waits for {other}, which has no health check"


def test_there_are_two_gateways_that_differ_in_their_ports_only():
    one, two = GATEWAYS.values()
    assert {name: value for name, value in one.items() if name != "ports"} == {
        name: value for name, value in two.items() if name != "ports"
    }
    image_listens_on = re.findall(r"GATEWAY__(?:ADMIN_)?LISTEN=0\.0\.0\.0:(\d+)", (ROOT / "Dockerfile").read_text())
    for gateway in GATEWAYS.values():
        assert [port.split(":")[2] for port in gateway["ports"]] == image_listens_on == ["8080", "9090"]


def settings_of(service: dict[str, Any]) -> Any:
    return read(inside(service, "/etc/campaign-gateway/gateway.yaml"))


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_gateways_settings_name_what_is_in_the_stack(name):
    tree = settings_of(GATEWAYS[name])
    assert tree["cache"]["replicas"] == len(GATEWAYS)
    assert tree["cache"]["url"] == "redis://valkey:6379/0"
    host, port = tree["platform"]["url"].removeprefix("http://").split(":")
    assert SERVICES[host]["command"][:3] == ["sandbox", "--port", port]
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    for path in (tree["cache"]["password_file"], tree["credentials"]["sandbox"]["client_secret_file"]):
        assert inside(GATEWAYS[name], path).is_file()
    assert "allow_anonymous" not in tree
    assert "listen" not in tree


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_is_given_the_time_to_stop(name):
    shutdown = Settings.model_fields["shutdown"].default.model_copy(
        update=settings_of(GATEWAYS[name]).get("shutdown", {})
    )
    assert int(GATEWAYS[name]["stop_grace_period"].removesuffix("s")) > shutdown.drain + shutdown.grace


def test_the_credentials_are_the_sandboxes():
    tree = settings_of(GATEWAYS["gateway-1"])
    credential, stream = tree["credentials"]["sandbox"], tree["streams"]["demo"]
    assert credential["client_id"] == DEMO_CLIENT_ID
    assert (stream["stream_id"], stream["account_id"]) == (DEMO_STREAM_ID, DEMO_ACCOUNT_ID)
    assert inside(GATEWAYS["gateway-1"], credential["client_secret_file"]).read_text().strip() == DEMO_SECRET
    assert tree["clients"]["demo"]["key_sha256"] == hashlib.sha256(DEMO_KEY.encode()).hexdigest()


def test_prometheus_asks_each_gateway_and_reads_each_file_of_rules():
    prometheus = SERVICES["prometheus"]
    settings = read(inside(prometheus, "/etc/prometheus/prometheus.yml"))
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]
    (job,) = [job for job in settings["scrape_configs"] if job["job_name"] == "campaign-gateway"]
    assert job["static_configs"] == [{"targets": [f"{name}:9090" for name in GATEWAYS]}]
    assert settings["rule_files"] == ["rules.yml", "alerts.yml"]
    for name in settings["rule_files"]:
        assert inside(prometheus, f"/etc/prometheus/{name}").is_file()


def test_grafana_finds_prometheus_and_the_dashboard():
    grafana = SERVICES["grafana"]
    provisioning = inside(grafana, "/etc/grafana/provisioning")
    (source,) = read(provisioning / "datasources/prometheus.yaml")["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    scraped = read(DEPLOY / "prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = read(provisioning / "dashboards/campaign-gateway.yaml")["providers"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(provider["options"]["path"] + "/")
    assert json.loads(inside(grafana, home).read_text())["uid"] == "campaign-gateway"
    assert inside(grafana, grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]).is_file()


# The stack's own settings, run without containers


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[tuple[list[GatewayProcess], str]]:
    """Both gateways, the sandbox and the store, each with the stack's own files; and where the sandbox is."""
    valkey = SERVICES["valkey"]
    settings = inside(valkey, valkey["command"][1]).read_text()
    (acl,) = re.findall(r"aclfile (.+)", settings)
    (tmp_path / "valkey.conf").write_text(settings.replace(acl, str(inside(valkey, acl))))
    port = free_port()
    platform = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "campaign_gateway"),
        *("sandbox", "--host", "127.0.0.1", "--port", str(port), *SERVICES["sandbox"]["command"][3:]),
        env={"PYTHONPATH": str(ROOT / "service")},
    )
    try:
        async with redis_server(tmp_path) as store, AsyncExitStack() as started:
            store.kill()
            await store.start(str(tmp_path / "valkey.conf"))
            gateways = []
            for gateway in GATEWAYS.values():
                tree = settings_of(gateway)
                tree |= {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}
                tree["platform"]["url"] = f"http://127.0.0.1:{port}"
                tree["cache"] |= {
                    "url": store.url,
                    "password_file": str(inside(gateway, tree["cache"]["password_file"])),
                    "seal": {"key_file": str(inside(gateway, tree["cache"]["seal"]["key_file"]))},
                }
                secret = tree["credentials"]["sandbox"]
                secret["client_secret_file"] = str(inside(gateway, secret["client_secret_file"]))
                gateways.append(await started.enter_async_context(gateway_process(tree, tmp_path)))
            yield gateways, f"http://127.0.0.1:{port}"
            platform.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await platform.wait() == 0, "it stops when asked, with connections open"
    finally:
        if platform.returncode is None:
            platform.kill()
            await platform.wait()


async def test_what_one_gateway_fetched_the_other_has(stack):
    (one, two), sandbox = stack
    async with aiohttp.ClientSession() as session, session.get(f"{sandbox}/_sandbox/campaigns") as answer:
        campaign = (await answer.json())["campaigns"][0]["id"]
    refused, _, _ = await one.get(campaign)
    assert refused == 401
    for gateway in (one, two):
        assert (await gateway.get_json("/readyz"))["status"] == "ready"
    first, headers, body = await one.get(campaign, Authorization=f"Bearer {DEMO_KEY}")
    assert (first, "fwd=uri-miss" in headers["Cache-Status"]) == (200, True)
    async with asyncio.timeout(5):
        # The first answer does not wait for the store.
        while True:
            second, headers, again = await two.get(
                campaign, Authorization=f"Bearer {DEMO_KEY}", Cache_Control="only-if-cached"
            )
            if second == 200:
                break
    assert "; hit" in headers["Cache-Status"]
    assert again == body
    assert not [line for line in two.log if "NOPERM" in line or "evicts" in line]


async def test_the_stores_settings_hold_what_the_gateways_need(stack, tmp_path):
    (one, _), _ = stack
    assert one.process.returncode is None
    port = next(tmp_path.glob("redis-*.log")).stem.removeprefix("redis-")
    password = (DEPLOY / "secrets/demo-valkey-password").read_text().strip()
    async with redis.asyncio.Redis(port=int(port), username="gateway", password=password) as gateway:
        assert (await gateway.config_get("maxmemory*"))["maxmemory-policy"] == "noeviction"
        # With it, a default user without a password makes the server refuse all but loopback, gateways included.
        assert (await gateway.config_get("protected-mode"))["protected-mode"] == "no"
        assert await gateway.set("cg:mine", 1)
        for refused in (gateway.set("other", 1), gateway.flushall(), gateway.config_set("maxmemory", "1")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await refused
    async with redis.asyncio.Redis(port=int(port)) as anybody:
        assert await anybody.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            await anybody.get("cg:mine")


# The settings to begin from


@cache
def invented_pems() -> Mapping[str, bytes]:
    """Certificates and a key that fit together, by the names that the examples give their files."""
    with TemporaryDirectory() as folder:
        authority = Authority(Path(folder), "authority")
        client = authority.issue("client")
        files = {
            "redis-ca.pem": authority.file,
            "redis-client.pem": client.cert_file,
            "redis-client-key.pem": client.key_file,
        }
        return {name: path.read_bytes() for name, path in files.items()}


def with_secrets_in(tree: Any, folder: Path) -> Any:
    """The tree with files in the folder in place of those under /run/secrets, each with what it may hold."""
    match tree:
        case dict():
            return {key: with_secrets_in(value, folder) for key, value in tree.items()}
        case str() if tree.startswith(SECRETS):
            path = folder / tree.removeprefix(SECRETS)
            path.write_bytes(invented_pems().get(path.name) or invented_for(path))
            return str(path)
    return tree


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_example_settings_are_taken_by_the_gateway(path, tmp_path):
    tree = read(path)
    # As in the image, where settings of the environment say so.
    tree |= {"listen": "0.0.0.0:8080", "admin_listen": "0.0.0.0:9090"}
    with pytest.raises(SettingsError) as without_files:
        read_tree(tree)
    assert all("cannot be read" in mistake.problem for mistake in without_files.value.mistakes)
    settings = read_tree(with_secrets_in(tree, tmp_path))
    assert settings.clients
    assert not settings.allow_anonymous
    assert settings.cache.replicas > 1
    assert settings.default_stream


def example(name: str, folder: Path) -> Settings:
    return read_tree(with_secrets_in(read(DEPLOY / "settings" / f"{name}.yaml"), folder))


def test_the_examples_show_what_their_names_say(tmp_path):
    assert {path.stem for path in SETTINGS} == {"compose", "one-stream", "several-accounts", "sentinel", "tls"}
    assert len(example("one-stream", tmp_path).streams) == 1
    several = example("several-accounts", tmp_path)
    accounts = {stream.account_id for stream in several.streams.values()}
    assert several.budgets.keys() == accounts
    assert len(accounts) == 2
    assert len(several.streams) == 3
    assert {stream.credential for stream in several.streams.values()} == several.credentials.keys()
    assert {scope for client in several.clients.values() for scope in client.scopes} == {"read", "write", "purge"}
    assert example("sentinel", tmp_path).cache.url.startswith("redis+sentinel://")
    tls = example("tls", tmp_path).cache
    assert tls.url.startswith("rediss://")
    assert tls.tls is not None
    assert all(path is not None for _, path in tls.tls)
