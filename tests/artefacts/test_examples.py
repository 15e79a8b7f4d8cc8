"""The tests of a service against a sandbox: what the examples start is started here, without containers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
SERVICES: dict[str, Any] = YAML(typ="safe", pure=True).load((EXAMPLES / "compose.yaml").read_text())["services"]
WORKFLOW = (EXAMPLES / "github-actions.yml").read_text()
FREE = ["--host=127.0.0.1", "--port=0", "--gateway-port=0", "--admin-port=0"]


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A sandbox as the workflow starts it, but on ports that are free."""
    (options,) = re.findall(r'"\$IMAGE" sandbox (.+)', WORKFLOW)
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "campaign_gateway", "sandbox", *options.split(), *FREE],
            env={**os.environ, "PYTHONPATH": str(ROOT / "service")},
            stdout=subprocess.PIPE,
            stderr=log,
        ) as sandbox,
    ):
        assert sandbox.stdout is not None
        yield json.loads(sandbox.stdout.readline())
        sandbox.terminate()
        assert sandbox.wait(30) == 0


def test_the_tests_find_what_they_expect(ready):
    environment = {**os.environ, "GATEWAY_URL": ready["gateway"], "GATEWAY_KEY": ready["key"]}
    done = subprocess.run(
        [EXAMPLES / "caller-tests.sh"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("ok: ") == 4


def test_what_the_workflow_reads_of_the_line_is_in_it(ready):
    for name in re.findall(r"\\\((\.\w+)\)", WORKFLOW):
        assert ready[name[1:]], name
    published = set(re.findall(r"--publish 127\.0\.0\.1:(\d+):\1 ", WORKFLOW))
    assert published == {"8080", "8081"}, "where the image's gateway and its control are"


def test_the_composed_tests_ask_the_gateway_with_its_key(ready):
    tests, gateway = SERVICES["tests"], SERVICES["gateway"]
    assert tests["environment"] == {"GATEWAY_URL": "http://gateway:8080", "GATEWAY_KEY": ready["key"]}
    assert tests["depends_on"] == {"gateway": {"condition": "service_healthy"}}
    assert gateway["command"][:2] == ["sandbox", "--with-gateway"]
    assert (EXAMPLES / tests["volumes"][0].split(":")[0]).is_file()
