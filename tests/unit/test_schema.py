from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from campaign_gateway.cli import main
from campaign_gateway.settings import tree
from campaign_gateway.settings.schema import schema_text, sentences, settings_schema

EXAMPLES = Path(__file__).parents[2] / "deploy" / "settings"
SECTIONS = [found for found in vars(tree).values() if isinstance(found, type) and issubclass(found, tree.Section)]


def test_there_is_a_sentence_for_each_setting():
    said = sentences()
    fields = {(section.__name__, key) for section in SECTIONS for key in section.model_fields}
    assert fields <= said.keys(), "say what it is, in settings/tree.py: below it, or behind it"
    assert all(text[0].isupper() or text[0] in "`m" for text in said.values())
    assert all(text.endswith(".") for text in said.values())


def test_each_key_has_its_sentence_in_the_schema():
    schema = settings_schema()
    parts = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    assert all("description" in row for part in parts for row in part["properties"].values())
    assert schema["$defs"]["Platform"]["properties"]["timeout"]["description"] == "For one whole call."


def test_a_setting_without_a_sentence_is_found():
    source = "class Platform:\n    url: str = ''\n    timeout: int = 1  # Seconds.\n"
    assert sentences(source) == {("Platform", "timeout"): "Seconds."}


def test_the_command_prints_what_editors_read():
    result = CliRunner().invoke(main, ["schema"])
    assert (result.exit_code, result.output) == (0, schema_text())
    assert (EXAMPLES / "schema.json").read_text("utf-8") == result.output, "run tools/chart.py"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_editors_find_no_fault_in_the_examples(path):
    text = path.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    Draft202012Validator.check_schema(settings_schema())
    faults = list(Draft202012Validator(settings_schema()).iter_errors(plain(text)))
    assert faults == []


@pytest.mark.parametrize("change", [{"colour": 1}, {"log": {"access": "some"}}, {"platform": {"timeout": 3}}])
def test_editors_find_what_would_be_refused(change):
    whole = plain((EXAMPLES / "one-stream.yaml").read_text("utf-8"))
    assert list(Draft202012Validator(settings_schema()).iter_errors(whole | change))


def plain(text: str) -> Any:
    return msgspec.to_builtins(YAML(typ="safe", pure=True).load(text))
