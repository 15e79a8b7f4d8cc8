"""The public description, held against the real process by a tool that knows nothing else of the API.

It drives every operation of the document, so a new route is driven as well. What it cannot make up it is told: names of
things that there are.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import gateway_process, settings_for

Operation = APIOperation[Any, Any, Any, Any]
Request = Case[Any]

KEY = "cgk_the-client-key"
PLENTY = 1_000_000
EXAMPLES = 4
"""Of each kind, for each operation: half a second of work for one that takes parameters."""

READS = {"get", "head"}

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# A 502, 503 or 504 tells of the platform or the budget, and is documented; a 500 is an error of the gateway's.
CONFIG = {
    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 502, 503, 504]}},
    "generation": {"with-security-parameters": False},  # the driver has its own key
}

bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Driver:
    """Asks for what the document describes, and holds each answer against it."""

    def __init__(self, url: str, campaign: str, contact_list: str) -> None:
        self.url = url
        self.campaign = campaign
        self.contact_list = contact_list
        self.session = requests.Session()
        self.session.trust_env = False
        self.seen: Counter[tuple[str, int]] = Counter()

    def operations(self) -> Iterator[Operation]:
        found = self.session.get(f"{self.url}/openapi.json", timeout=10).json()
        schema = schemathesis.openapi.from_dict(found, config=SchemathesisConfig.from_dict(CONFIG))
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            yield result.ok()

    def run(self, cases: st.SearchStrategy[Request], key: str | None) -> None:
        """Sends some of the cases with this key, and judges the answers."""
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}

        @bounded
        @given(cases)
        def ask(case: Request) -> None:
            answer = case.call(self.url, self.session, headers, allow_redirects=False, timeout=10)
            case.validate_response(answer, checks=CHECKS, headers=headers)
            self.seen[case.operation.label, answer.status_code] += 1

        ask()

    def kinds(self, operation: Operation) -> Iterator[st.SearchStrategy[Request]]:
        """Cases about things that there are; then cases as described, and cases that break the description."""
        real = {
            "stream": "support",
            "name": "internal",
            "id": self.contact_list if "/contact-lists/" in operation.path else self.campaign,
        }
        names = {parameter.name: real[parameter.name] for parameter in operation.path_parameters}
        is_list = operation.path.endswith("/campaigns") and operation.method in READS
        queries: list[dict[str, Any]] = [{"type": "voice"}, {"ids": [self.campaign]}] if is_list else [{}]
        for query in queries:
            yield operation.as_strategy(path_parameters=names, query=query or None)
        # A HEAD goes the way of its GET. Header fields are free text, which nothing can break.
        if operation.method != "head" and (operation.path_parameters or operation.query or operation.body):
            yield operation.as_strategy() | operation.as_strategy(GenerationMode.NEGATIVE)


async def driven(folder: Path, use: Callable[[Driver], None]) -> None:
    """Lets `use` drive a gateway before a platform, neither of which knows a limit."""
    clients = {
        "driver": {
            "key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "streams": ["support"],
            "scopes": ["read", "write", "purge"],
        }
    }
    async with Sandbox(SandboxConfig(campaigns=80, calls=PLENTY)) as sandbox:
        budgets = {"default": {"calls": PLENTY, "window": "60s"}}
        tree = settings_for(sandbox, folder, clients=clients, budgets=budgets, sweep={"share": 0})
        async with gateway_process(tree, folder) as gateway:
            driver = Driver(gateway.url, sandbox.campaigns.all()[0].id, sandbox.contact_lists.all()[0].id)
            with closing(driver.session):
                await asyncio.to_thread(use, driver)


async def test_every_answer_to_anything_at_all_is_a_documented_one(tmp_path):
    def use(driver):
        reads = set()
        # What is deleted is not there for others.
        for operation in sorted(driver.operations(), key=lambda operation: operation.method == "delete"):
            for cases in driver.kinds(operation):
                driver.run(cases, KEY)
            if operation.method in READS:
                reads.add(operation.label)
        assert reads <= {label for label, status in driver.seen if status in {200, 304}}

    await driven(tmp_path, use)


async def test_what_needs_a_key_says_so(tmp_path):
    def use(driver):
        for operation in driver.operations():
            driver.run(next(driver.kinds(operation)), None)
            is_open = operation.definition.raw["security"] == []
            assert any((operation.label, status) in driver.seen for status in (200, 304)) == is_open
            assert ((operation.label, 401) in driver.seen) != is_open

    await driven(tmp_path, use)
