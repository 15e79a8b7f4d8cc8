import gzip
import hashlib
import json
import re
import subprocess
import sys
import threading
import zipfile
from importlib import resources
from pathlib import Path

import pytest
from multidict import CIMultiDict

from campaign_gateway.policy.stored import make_etag
from campaign_gateway.problems import Problem
from campaign_gateway.web.docs import pages
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


@pytest.mark.parametrize("path", ["/openapi.json", "/problems/internal"])
async def test_a_page_is_made_beside_the_loop(front, path, monkeypatch):
    threads = []

    def make() -> pages.Page:
        threads.append(threading.get_ident())
        return pages.Page(b"{}", "application/json", '"x"')

    monkeypatch.setattr(pages, "_load", lambda _path: make())
    monkeypatch.setattr(pages, "_load_problem", lambda _path, **_: make())
    assert (await front.ask(path, key=None)).status == 200
    assert threads
    assert threading.get_ident() not in threads


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


@pytest.mark.parametrize("problem", Problem)
async def test_the_type_of_every_problem_leads_to_a_page_and_to_json(front, problem):
    page = await front.ask(problem.type, "Accept: text/html,application/xhtml+xml,*/*;q=0.8", key=None)
    assert (page.status, page["Content-Type"], page["Vary"]) == (
        200,
        "text/html; charset=utf-8",
        "Accept, Accept-Encoding",
    )
    text = page.body.decode()
    assert [heading in text for heading in ("<h2>Cause", "<h2>What to do", "<h2>Whom to ask")] == [True] * 3
    assert "`" not in text
    answer = await front.ask(problem.type, "Accept: application/json", key=None)
    assert (answer.status, answer["Content-Type"], answer["Vary"]) == (
        200,
        "application/json",
        "Accept, Accept-Encoding",
    )
    told = json.loads(answer.body)
    assert (told["type"], told["title"], told["status"]) == (problem.type, problem.title, problem.status)
    assert all(told[name] for name in ("cause", "cure", "contact"))
    assert answer["ETag"] != page["ETag"]


async def test_all_problems_are_listed_with_links_that_lead_there(front):
    page = (await front.ask("/problems", key=None)).body.decode()
    assert {f"/{link}" for link in re.findall(r'<a href="([^"]+)"', page)} == {problem.type for problem in Problem}
    listed = json.loads((await front.ask("/problems", "Accept: application/json", key=None)).body)["problems"]
    assert [row["type"] for row in listed] == [problem.type for problem in Problem]


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", False),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/json, text/plain, */*", True),
        ("text/html, application/json", False),
        ("text/html;q=0.5, application/json", True),
        ("application/json;q=0", False),
        ("application/json;q=nan, application/json;q=-1", False),
        ("APPLICATION/JSON ; q=0.1", True),
    ],
)
def test_accept_chooses_between_the_page_and_json(accept, is_json):
    make_page = page_at("GET", "/problems/internal", CIMultiDict({"Accept": accept}))
    assert make_page is not None
    assert (make_page().content_type == "application/json") is is_json


@pytest.mark.parametrize(
    "path", ["/problems/nothing", "/problems/internal/", "/problems/..%2fdocs", "/problems/Internal"]
)
async def test_a_problem_that_there_is_not_is_not_found(front, path):
    assert (await front.ask(path, key=None)).status == 404


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


async def test_without_docs_there_is_nothing_but_the_pages_about_problems(serve):
    async with serve(has_docs=False) as front:
        for path in ("/openapi.json", "/docs", "/docs/", "/docs/start.js", "/docs/swagger-ui-bundle.js"):
            hidden, nothing = await front.ask(path), await front.ask("/nothing")
            assert (hidden.status, hidden["Content-Type"]) == (nothing.status, nothing["Content-Type"])
            assert (await front.ask(path, key=None)).status == (await front.ask("/nothing", key=None)).status
        problem = await front.ask("/problems/internal", key=None)
        assert problem.status == 200
        links = re.findall(rb'href="\.\./([^"]+)"', problem.body)
        for link in links:
            assert (await front.ask(f"/{link.decode()}", key=None)).status == 200
        assert b"docs/page.css" in links
    assert re.search(rb'href="\.\./docs"', problem.body) is None


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


@pytest.mark.parametrize("path", ["/", "/?x=1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_leads_to_the_page(front, path, method):
    answer = await front.ask(path, key=None, method=method)
    assert (answer.status, answer["Location"], answer.body) == (302, "/docs", b"")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs/swagger-ui-bundle.js", "/problems"])
async def test_whoever_accepts_gzip_gets_fewer_bytes_with_a_tag_of_their_own(front, path):
    plain = await front.ask(path, key=None)
    packed = await front.ask(path, "Accept-Encoding: br, gzip", key=None)
    assert (plain["Content-Encoding"], packed["Content-Encoding"]) == (None, "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 2
    assert packed["ETag"] != plain["ETag"]
    assert "Accept-Encoding" in str(packed["Vary"])
    assert "Accept-Encoding" in str(plain["Vary"])
    again = await front.ask(path, "Accept-Encoding: gzip", f"If-None-Match: {packed['ETag']}", key=None)
    assert (again.status, again["ETag"], again.body) == (304, packed["ETag"], b"")
    other = await front.ask(path, f"If-None-Match: {packed['ETag']}", key=None)
    assert other.status == 200
