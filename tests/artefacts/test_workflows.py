"""Workflows and the dependency bot, as far as they can be judged without GitHub."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from campaign_gateway import __version__

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXAMPLE = ROOT / "deploy" / "examples" / "github-actions.yml"
"""For a repository of others; it has to be as good as ours."""


def run(*words: str | Path) -> None:
    result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=50)
    assert result.returncode == 0, result.stdout + result.stderr


def tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def test_zizmor_finds_nothing_unsafe():
    run(tool("zizmor"), "--offline", "--no-progress", ".github", EXAMPLE)


@pytest.mark.parametrize(
    ("schema", "files"),
    [("vendor.github-workflows", [*WORKFLOWS, EXAMPLE]), ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"])],
)
def test_github_would_take_them(schema, files):
    assert files
    run(tool("check-jsonschema"), "--builtin-schema", schema, *files)


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint has no wheel of its own makers")
def test_actionlint_finds_no_mistake():
    run("actionlint", *WORKFLOWS, EXAMPLE)


def test_an_action_is_one_commit_and_says_which_version_that_is():
    found = [
        row for path in (*WORKFLOWS, EXAMPLE) for row in re.findall(r"uses: ([^.\s]\S*)(.*)", path.read_text("utf-8"))
    ]
    assert found
    for action, comment in found:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert len({action.partition("@")[0] for action, _ in found}) == len(set(found)), "one version of each"


def test_what_they_run_is_there():
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"make PYTHON=python ([a-z-]+)$", text, re.MULTILINE)) <= targets
    for name in re.findall(r"\btools/[a-z-]+", text):
        assert (ROOT / name).is_file(), name


def test_a_release_finds_the_version_where_it_looks_for_it():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert f"ARG VERSION={__version__}" in lines
    chart = YAML(typ="safe", pure=True).load(ROOT / "helm" / "campaign-gateway" / "Chart.yaml")
    assert (chart["name"], chart["version"]) == ("campaign-gateway", __version__)


def test_only_the_job_that_publishes_to_pypi_is_trusted_there():
    jobs = YAML(typ="safe", pure=True).load(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert {name for name, job in jobs.items() if job.get("environment") == "pypi"} == {"pypi"}
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert not [step for step in jobs["pypi"]["steps"] if "run" in step]
