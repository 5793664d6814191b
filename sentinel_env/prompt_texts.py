"""The prompts in `prompts/*.md`, with their blanks filled in."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .domain import Domain


def fill(name: str, **values: str) -> str:
    """A prompt with its `$blanks` filled in.

    Raises:
        KeyError: A blank is left.
    """
    return _template(name).substitute(values)


def as_data(value: Any) -> str:
    """JSON that cannot close the tags around it in a prompt, whatever was said in it."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")


def in_text(domain: Domain) -> str:
    """The policy, the tools and how to write a call, for agents that work on text alone."""
    return fill("text_agent", policy=domain.policy, tools="\n".join(map(json.dumps, domain.schemas)))


@cache
def _template(name: str) -> Template:
    return Template(files(__package__).joinpath("prompts", f"{name}.md").read_text(encoding="utf-8").rstrip("\n"))
