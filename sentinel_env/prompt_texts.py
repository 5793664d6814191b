"""The prompts in `prompts/*.md`, with their blanks filled in."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template


def fill(name: str, **values: str) -> str:
    """A prompt with its `$blanks` filled in.

    Raises:
        KeyError: A blank is left.
    """
    return _template(name).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template(files(__package__).joinpath("prompts", f"{name}.md").read_text(encoding="utf-8").rstrip("\n"))
