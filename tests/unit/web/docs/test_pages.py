import hashlib
import json
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from campaign_gateway.policy.stored import make_etag
from campaign_gateway.web.docs.openapi import document
from campaign_gateway.web.docs.pages import page_at

ROOT = Path(__file__).parents[4]
VIEWER = resources.files("campaign_gateway.web.docs") / "viewer"
TYPES = {
    "/openapi.json": "application/json",
    "/docs": "text/html; charset=utf-8",
    "/docs/page.css": "text/css; charset=utf-8",
    "/docs/start.js": "text/javascript; charset=utf-8",
    "/docs/icon.svg": "image/svg+xml",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}


@pytest.mark.parametrize(("path", "content_type"), TYPES.items())
async def test_each_file_is_served_without_a_key_and_with_every_caution(front, path, content_type):
    answer = await front.ask(path, key=None)
    assert answer.status == 200
    assert answer["Content-Type"] == content_type
    assert answer["ETag"] == make_etag(answer.body)
    assert answer["Cache-Control"] == "no-cache"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert answer["X-Request-ID"] is not None
    assert front.exchange.requests == []


def test_the_viewers_files_are_those_of_its_release():
    files = VIEWER / "swagger-ui"
    sums = [line.split() for line in (files / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in sums} == {file.name for file in files.iterdir()} - {"SHA256SUMS"}
    for digest, name in sums:
        assert hashlib.sha256((files / name).read_bytes()).hexdigest() == digest, name


async def test_a_head_has_the_same_fields_and_no_body(front):
    whole, head = await front.ask("/docs", key=None), await front.ask("/docs", key=None, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head["Content-Length"] == str(len(whole.body))
    assert head["ETag"] == whole["ETag"]


async def test_a_good_copy_gets_a_304_with_the_same_cautions(front):
    whole = await front.ask("/openapi.json", key=None)
    answer = await front.ask("/openapi.json", f'If-None-Match: "other", {whole["ETag"]}', key=None)
    assert (answer.status, answer.body) == (304, b"")
    for name in ("ETag", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options"):
        assert answer[name] == whole[name]
    assert (await front.ask("/openapi.json", 'If-None-Match: "other"', key=None)).status == 200


async def test_the_description_is_served_as_it_was_made(front):
    assert json.loads((await front.ask("/openapi.json?v=2", key=None)).body) == document()


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/start.js"])
async def test_nothing_else_can_be_done_to_them(front, path):
    answer = await front.ask(path, key=None, method="DELETE")
    assert (answer.status, answer["Allow"]) == (405, "GET, HEAD")
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/docs/LICENSE",
        "/docs/pages.py",
        "/docs/../api.py",
        "/docs/..%2fapi.py",
        "//docs",
        "/docs/page.html",
        "/Docs",
        "/docs%2Fstart.js",
    ],
)
async def test_no_other_path_names_a_file(front, path):
    assert page_at("GET", path) is None
    assert (await front.ask(path, key=None)).status == 401


async def test_a_slash_too_many_is_told(front):
    answer = await front.ask("/docs/", key=None)
    assert answer.status == 404
    assert (
        json.loads(answer.body)["detail"] == "there is nothing at this path, but there is without the slash at its end"
    )


async def test_they_are_counted_as_one_operation(front):
    for path in ("/docs", "/openapi.json", "/docs/start.js"):
        await front.ask(path, key=None)
    assert front.meter.events == {("request", "docs", "none", "200", "none"): 3}


def test_the_page_asks_only_for_what_is_served():
    page = (VIEWER / "page.html").read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert {f"/{link}" for link in links} == set(TYPES) - {"/docs"}
    assert '"openapi.json"' in (VIEWER / "start.js").read_text()


def test_the_page_has_no_script_or_style_of_its_own():
    page = (VIEWER / "page.html").read_text()
    assert re.findall(r"<style|style=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", page) == []


def test_the_wheel_carries_the_viewer_and_its_licences(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=50)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {
        f"campaign_gateway/web/docs/viewer/{path.relative_to(str(VIEWER))}"
        for path in Path(str(VIEWER)).rglob("*")
        if path.is_file()
    }
    assert shipped <= names
    licences = {Path(name).name for name in names if ".dist-info/licenses/service/" in name}
    assert licences == {"LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"}
