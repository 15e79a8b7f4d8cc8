"""What is at `/problems` and `/problems/<name>`: where the `type` of a problem leads, for people and for programs."""

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from campaign_gateway.problems import Problem
from campaign_gateway.web.docs.guide import GUIDE

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title}</title>
    <link rel="icon" href="{root}docs/icon.svg">
    <link rel="stylesheet" href="{root}docs/page.css">
  </head>
  <body class="text">
    <main>
{main}
    </main>
  </body>
</html>
"""
_ONE = """\
      <h1>{title}</h1>
      <p><code>{name}</code>, HTTP status {status}</p>
      <h2>Cause</h2>
      <p>{cause}</p>
      <h2>What to do</h2>
      <p>{cure}</p>
      <h2>Whom to ask</h2>
      <p>{contact}</p>
      <p><a href="../problems">All problems</a>{docs}</p>"""
_DOCS = ', <a href="../docs">the API</a>'
_ROW = '      <tr><td>{status}</td><td><a href="problems/{name}"><code>{name}</code></a></td><td>{title}</td></tr>'
_CODE = re.compile(r"`([^`]+)`")


def problem_document(problem: Problem) -> Mapping[str, Any]:
    """What is known of the type, for programs."""
    guide = GUIDE[problem]
    return {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "cause": guide.cause,
        "cure": guide.cure,
        "contact": guide.contact,
    }


def as_json(problem: Problem | None) -> bytes:
    """The type, or `{"problems": [...]}` for None."""
    if problem is not None:
        return json.dumps(problem_document(problem)).encode()
    return json.dumps({"problems": [problem_document(one) for one in Problem]}).encode()


def as_html(problem: Problem | None, *, has_docs: bool = True) -> bytes:
    """A page about the type, or one with all of them for None. Its links are relative to the type's path.

    Without `has_docs` it leads to no description of the API.
    """
    if problem is not None:
        members = {name: _html(str(value)) for name, value in problem_document(problem).items()}
        main = _ONE.format(**members, name=problem.value.name, docs=_DOCS if has_docs else "")
        return _PAGE.format(title=escape(problem.title), root="../", main=main).encode()
    by_status = sorted(Problem, key=lambda one: one.status)
    rows = [_ROW.format(status=one.status, name=one.value.name, title=escape(one.title)) for one in by_status]
    main = "\n".join(["      <h1>Problems</h1>", "      <table>", *rows, "      </table>"])
    return _PAGE.format(title="Problems", root="", main=main).encode()


def _html(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
