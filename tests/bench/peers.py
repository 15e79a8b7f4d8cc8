"""The peers: other caches that answer the same reads, each set up the way its own manual would for speed.

None of them does more than it must: no client keys, no log lines, no metrics. So the comparison is in their favour.
"""

import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.servers import AbsentError, Server, Servers, identity_in
from tests.support.wire import free_port

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-bench" / "bin" / "python"
"""Of the virtual environment that `tools/setup-bench` makes."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What peers stand on."""

    servers: Servers
    origin_port: int
    """An origin that answers every campaign, to be cached for an hour."""
    bodies: Path
    """The same answers as a JSON file: id to text, for peers that have no origin."""
    redis_url: str


Starter = Callable[[Surroundings], Awaitable[Server]]


NGINX, NGINX_TLS = "nginx", "nginx-tls"


async def nginx(around: Surroundings, *, has_tls: bool = False) -> Server:
    """One worker, files in memory and kept open. For answers as short as these `sendfile` costs more than it saves."""
    name = NGINX_TLS if has_tls else NGINX
    program, port, folder = _program("nginx"), free_port(), around.servers.folder / name
    folder.mkdir()
    identity = identity_in(around.servers.folder)
    files = f"ssl_certificate {identity.cert_file}; ssl_certificate_key {identity.key_file};"
    ssl, certificate = ("ssl", files) if has_tls else ("", "")
    config = folder / "nginx.conf"
    # Its worker would else be somebody who may not enter this folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(f"""
        {user}
        daemon off;
        worker_processes 1;
        pid {folder}/pid;
        error_log /dev/null;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            tcp_nodelay on;
            sendfile off;
            keepalive_timeout 1h;
            keepalive_requests 1000000000;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            proxy_cache_path {folder}/cache levels=1:2 keys_zone=campaigns:16m inactive=1h use_temp_path=off;
            open_file_cache max=10000 inactive=1h;
            open_file_cache_valid 1h;
            open_file_cache_min_uses 1;
            server {{
                listen 127.0.0.1:{port} backlog=1024 {ssl};
                {certificate}
                location / {{
                    proxy_pass http://127.0.0.1:{around.origin_port};
                    proxy_cache campaigns;
                    proxy_cache_key $uri;
                }}
            }}
        }}
    """)
    command = [program, "-p", folder, "-e", "/dev/null", "-c", config]
    return Server(name, port, await around.servers.start(command, port), has_tls=has_tls)


async def haproxy(around: Surroundings) -> Server:
    """One thread. It caches nothing that was asked for with a key, so the key is taken off first."""
    program, port = _program("haproxy"), free_port()
    config = around.servers.folder / "haproxy.cfg"
    config.write_text(f"""
global
    nbthread 1
    maxconn 4096

cache campaigns
    total-max-size 64
    max-object-size 65536
    max-age 3600

defaults
    mode http
    timeout client 1h
    timeout server 10s
    timeout connect 2s
    timeout http-keep-alive 1h

frontend in
    bind 127.0.0.1:{port} backlog 1024
    http-request del-header Authorization
    http-request cache-use campaigns
    http-response cache-store campaigns
    default_backend origin

backend origin
    server origin 127.0.0.1:{around.origin_port}
""")
    command = [program, "-db", "-f", config]
    return Server("HAProxy", port, await around.servers.start(command, port), {"Age": ""})


async def varnish(around: Surroundings) -> Server:
    """In memory. Its built-in rules pass requests with a key by, so this one goes straight to the look-up."""
    program, port, folder = _program("varnishd"), free_port(), around.servers.folder / "varnish"
    config = around.servers.folder / "varnish.vcl"
    config.write_text(f"""
        vcl 4.1;
        backend origin {{ .host = "127.0.0.1"; .port = "{around.origin_port}"; }}
        sub vcl_recv {{ return (hash); }}
    """)
    command = [program, "-F", "-j", "none", "-n", folder, "-a", f"127.0.0.1:{port}", "-f", config]
    command += ["-s", "default,256m", "-p", "thread_pools=1", "-p", "timeout_idle=3600"]
    return Server("Varnish", port, await around.servers.start(command, port), {"Age": ""})


async def plain_aiohttp(around: Surroundings) -> Server:
    """aiohttp's router over a dictionary, on uvloop as the gateway is."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.apps.plain_aiohttp", str(port), around.bodies]
    return Server("plain aiohttp", port, await around.servers.start(command, port), {"Age": "", "ETag": '"'})


async def plain_redis_py(around: Surroundings) -> Server:
    """aiohttp's router over Redis, a `GET` for each request, on uvloop too."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.apps.plain_redis_py", str(port), around.bodies, around.redis_url]
    return Server("plain redis-py", port, await around.servers.start(command, port))


async def fastapi_in_memory(around: Surroundings) -> Server:
    """FastAPI with fastapi-cache2, in its memory."""
    return await _fastapi(around, "FastAPI + fastapi-cache2", {})


async def fastapi_on_redis(around: Surroundings) -> Server:
    """FastAPI with fastapi-cache2, in Redis."""
    return await _fastapi(around, "FastAPI + fastapi-cache2, Redis", {"BENCH_REDIS": around.redis_url})


async def _fastapi(around: Surroundings, name: str, environ: Mapping[str, str]) -> Server:
    if not PYTHON.exists():
        raise AbsentError("its virtual environment is not there: tools/setup-bench")
    port = free_port()
    command = [PYTHON, "-m", "uvicorn", "--app-dir", HERE / "apps", "--factory", "fastapi_cached:application"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    command += ["--no-access-log", "--timeout-keep-alive", "3600", "--log-level", "error"]
    pid = await around.servers.start(command, port, {"BENCH_BODIES": str(around.bodies), **environ})
    return Server(name, port, pid, {"X-FastAPI-Cache": "HIT"}, is_exact=False)


def _program(name: str) -> str:
    # Debian keeps servers where a user's PATH may not look.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise AbsentError("not installed")
    return found


PEERS: Mapping[str, Starter] = {
    NGINX: nginx,
    NGINX_TLS: partial(nginx, has_tls=True),
    "HAProxy": haproxy,
    "Varnish": varnish,
    "plain aiohttp": plain_aiohttp,
    "plain redis-py": plain_redis_py,
    "FastAPI + fastapi-cache2": fastapi_in_memory,
    "FastAPI + fastapi-cache2, Redis": fastapi_on_redis,
}
