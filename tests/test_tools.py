"""@tool: schemas that others accept, strict arguments, and refusals that a model can act on."""

import copy
import inspect
import json
import typing
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from sentinel_env import Database, Domain, DomainError, Record, Table, ToolCall, ToolError, list_domains, load_domain, tool

INSTALLED = sorted(list_domains())
TOOLS = [(domain, one) for domain in INSTALLED for one in load_domain(domain).tools]
IDS = [f"{domain}.{one.name}" for domain, one in TOOLS]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(BaseModel):
    width: int
    title: str = ""


@tool
def paint(
    db: object,
    walls: int,
    names: list[str],
    colour: Colour = Colour.RED,
    finish: Literal["matt", "gloss"] = "matt",
    day: date | None = None,
    sizes: dict[str, Size] | None = None,
    coats: Annotated[int, Field(ge=1, le=5)] = 2,
    budget: float = 10.0,
    note: str | None = None,
    dry: bool = False,
) -> dict[str, Any]:
    """Paint walls.

    Everything is painted at once.

    Args:
        walls: How many walls.
        names: Whose walls they are,
            one name for each.
        colour: Which colour.
        finish: How it shines.
        day: When, such as "2026-05-01".
        sizes: By name.
        coats: How often.
        budget: In euros.
        note: Anything else.
        dry: Whether to only say what would be done.
    """
    return {"walls": walls, "names": names, "colour": colour, "day": day, "coats": coats, "budget": budget, "note": note, "sizes": sizes}


def run(**arguments: Any) -> Any:
    return paint.run(None, {"walls": 2, "names": ["Ann"], **arguments})


# schemas


def test_the_schema_comes_from_the_hints_and_the_docstring():
    function = paint.schema["function"]
    assert (paint.schema["type"], function["name"]) == ("function", "paint")
    assert function["description"] == "Paint walls.\n\nEverything is painted at once."
    parameters = function["parameters"]
    assert (parameters["type"], parameters["required"]) == ("object", ["walls", "names"])
    assert parameters["properties"]["walls"] == {"type": "integer", "description": "How many walls."}
    assert parameters["properties"]["names"] == {
        "type": "array",
        "items": {"type": "string"},
        "description": "Whose walls they are,\none name for each.",
    }
    assert parameters["properties"]["finish"] == {
        "type": "string",
        "enum": ["matt", "gloss"],
        "default": "matt",
        "description": "How it shines.",
    }
    assert parameters["properties"]["coats"] == {"type": "integer", "minimum": 1, "maximum": 5, "default": 2, "description": "How often."}
    assert "title" in parameters["$defs"]["Size"]["properties"], "an argument called title is no pydantic title"


@pytest.mark.parametrize(("domain", "one"), [*TOOLS, ("", paint)], ids=[*IDS, "paint"])
def test_every_schema_is_valid_json_schema(domain, one):
    parameters = one.schema["function"]["parameters"]
    jsonschema.Draft202012Validator.check_schema(parameters)
    json.dumps(one.schema)
    assert one.schema["function"]["description"]
    assert all(properties.get("description") for properties in parameters["properties"].values()), "every argument is documented"


@pytest.mark.parametrize(("domain", "one"), TOOLS, ids=IDS)
def test_every_tool_keeps_the_rules_of_transformers_get_json_schema(domain, one):
    transformers = pytest.importorskip("transformers.utils", reason="transformers is not installed")
    theirs = transformers.get_json_schema(without_database(one))["function"]
    ours = one.schema["function"]
    assert theirs["name"] == ours["name"]
    assert theirs["description"].split() == ours["description"].split()
    assert theirs["parameters"].get("required", []) == ours["parameters"]["required"]
    for name, schema in theirs["parameters"]["properties"].items():
        mine = ours["parameters"]["properties"][name]
        assert mine["description"].split() == schema["description"].split()
        assert mine.get("type") == schema.get("type") or "anyOf" in mine or schema.get("nullable")
    assert list(theirs["parameters"]["properties"]) == list(ours["parameters"]["properties"])


def without_database(one):
    """The tool's function as transformers wants it: the agent's arguments only."""

    def function(**arguments):
        raise AssertionError

    hints = typing.get_type_hints(one.function)
    first, *rest = inspect.signature(one.function).parameters.values()
    function.__name__, function.__doc__ = one.name, inspect.getdoc(one.function)
    function.__annotations__ = {name: hint for name, hint in hints.items() if name not in (first.name, "return")}
    function.__signature__ = inspect.Signature(rest)
    return function


# arguments


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"walls": "2"}, "argument 'walls' must be a valid integer, found \"2\""),
        ({"walls": 2.0}, "argument 'walls' must be a valid integer, found 2.0"),
        ({"walls": True}, "argument 'walls' must be a valid integer, found true"),
        ({"walls": None}, "argument 'walls' must be a valid integer, found null"),
        ({"names": "Ann"}, "argument 'names' must be a valid array, found \"Ann\""),
        ({"names": ["Ann", 3]}, "argument 'names.1' must be a valid string, found 3"),
        ({"names": {"0": "Ann"}}, "argument 'names' must be a valid array"),
        ({"colour": "green"}, "argument 'colour' must be 'red' or 'blue', found \"green\""),
        ({"finish": "wet"}, "argument 'finish' must be 'matt' or 'gloss', found \"wet\""),
        ({"day": "tomorrow"}, "argument 'day' must be a valid date"),
        ({"sizes": {"a": {"width": "1"}}}, "argument 'sizes.a.width' must be a valid integer"),
        ({"coats": 0}, "argument 'coats' must be greater than or equal to 1, found 0"),
        ({"budget": "1"}, "argument 'budget' must be a valid number"),
        ({"budget": float("nan")}, "argument 'budget' must be a finite number"),
        ({"dry": "yes"}, "argument 'dry' must be a valid boolean"),
        ({"dry": 1}, "argument 'dry' must be a valid boolean"),
        ({"db": 1}, "unknown argument 'db'"),
        ({"x" * 1000: 1}, "unknown argument '" + "x" * 100 + "'"),
        ({"walls": "2", "names": 3, "extra": 1}, "argument 'walls' must be a valid integer, found \"2\"; argument 'names' must be"),
    ],
)
def test_a_wrong_argument_is_named_with_what_the_tool_takes(arguments, complaint):
    with pytest.raises(ToolError) as caught:
        run(**arguments)
    assert complaint in str(caught.value)
    assert "; paint takes walls: integer, names: list of string, colour: \"red\" or \"blue\" (optional)" in str(caught.value)  # fmt: skip
    assert len(str(caught.value)) < 2000


def test_missing_arguments_are_all_named():
    with pytest.raises(ToolError, match="argument 'walls' is missing; argument 'names' is missing; paint takes walls"):
        paint.run(None, {})


def test_json_becomes_the_types_that_the_function_asks_for():
    result = run(colour="blue", day="2026-05-01", sizes={"a": {"width": 1}}, budget=3)
    assert result["colour"] is Colour.BLUE
    assert result["day"] == date(2026, 5, 1)
    assert result["sizes"] == {"a": Size(width=1)}
    assert (result["budget"], type(result["budget"])) == (3.0, float)


def test_null_stands_for_an_optional_argument_that_is_left_out():
    every = {name: None for name in paint.schema["function"]["parameters"]["properties"] if name not in ("walls", "names")}
    assert run(**every) == run()
    assert run(coats=None)["coats"] == 2


@pytest.mark.parametrize("name", ["copy", "json", "schema", "validate", "model_config", "model_fields", "model_name", "_hidden", "title"])
def test_any_argument_name_works(name):
    space: dict[str, Any] = {}
    exec(f"def f(db, {name}: str, n: int = 1) -> str:\n    'Do it.'\n    return {name} * n\n", space)
    one = tool(space["f"])
    assert list(one.schema["function"]["parameters"]["properties"]) == [name, "n"]
    assert one.run(None, {name: "ab", "n": 2}) == "abab"
    assert one.run(None, {name: "ab", "n": None}) == "ab"
    with pytest.raises(ToolError, match=f"argument '{name}' must be a valid string, found 3; f takes {name}: string, n: integer"):
        one.run(None, {name: 3})
    with pytest.raises(ToolError, match=f"argument '{name}' is missing"):
        one.run(None, {})


def test_a_default_keeps_its_own_title():
    def keep(db: object, row: dict[str, str] = {"title": "x"}) -> dict[str, str]:  # noqa: B006
        """Keep."""
        return row

    assert tool(keep).schema["function"]["parameters"]["properties"]["row"]["default"] == {"title": "x"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from([*paint.schema["function"]["parameters"]["properties"], "other"]), JSON, max_size=11))
def test_arguments_are_accepted_exactly_when_the_schema_accepts_them(arguments):
    before = copy.deepcopy(arguments)
    schema = {**paint.schema["function"]["parameters"], "additionalProperties": False}
    given = {name: value for name, value in arguments.items() if value is not None or name in ("walls", "names")}
    try:
        paint.run(None, arguments)
    except ToolError:
        accepted = False
    else:
        accepted = True
    assert repr(arguments) == repr(before), "arguments are left as they were"
    if accepted:
        jsonschema.validate(given, schema)
    elif not any(map(is_subtle, given.values())):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(given, schema)


def is_subtle(value):
    """JSON Schema takes 2.0 for an integer, any text for a date and infinity for a number; a tool does not."""
    if isinstance(value, dict | list):
        return any(map(is_subtle, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float | str)


# declaring


def test_a_tool_is_still_the_plain_function():
    assert paint(None, 1, [])["walls"] == 1
    assert paint.__name__ == "paint"
    assert inspect.getdoc(paint).startswith("Paint walls.")
    assert tool(writes=True)(paint.function).writes
    assert not paint.writes


def no_hint(db, x):
    """Do."""


def star(db, *rows: str):
    """Do."""


def stars(db, **rows: str):
    """Do."""


def nothing():
    """Do."""


def unresolved(db, x: "Nowhere") -> None:  # noqa: F821
    """Do."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_hint, "tool no_hint: argument 'x' has no type hint"),
        (star, r"tool star: \*rows has no JSON schema; name each argument"),
        (stars, r"tool stars: \*rows has no JSON schema"),
        (nothing, r"tool nothing: its first parameter is the database, found no parameter; write def nothing\(db, ...\)"),
        (unresolved, "tool unresolved: a type hint does not resolve: name 'Nowhere' is not defined; define the type at module level"),
    ],
)
def test_a_signature_that_cannot_be_a_tool_is_found_when_the_domain_is_made(function, message):
    with pytest.raises(DomainError, match=message):
        Domain(name="d", policy="", tools=(tool(function),), database=dict)


# running in a domain


class Row(Record):
    text: str


class Rows(Database):
    rows: Table[Row]


@tool
def sneaky_read(db: Rows, refuse: bool = False) -> str:
    """Change what it should only read."""
    db.rows.update("a", text="changed")
    return "done"


@tool(writes=True)
def half(db: Rows, how: str) -> str:
    """Write, then fail.

    Args:
        how: In which way.
    """
    db.rows.update("a", text="changed")
    db.rows.add("b", Row(text="new"))
    if how == "refuse":
        raise ToolError("no, on second thoughts")
    if how == "crash":
        raise KeyError("x")
    return how


DOMAIN = Domain(name="rows", policy="", tools=(sneaky_read, half), database=lambda: Rows(rows={"a": Row(text="as it was")}))


def call(db, name, **arguments):
    return DOMAIN.execute(db, ToolCall(name=name, arguments=arguments, id="7"))


def test_a_read_that_writes_is_a_bug_of_the_domain_and_changes_nothing():
    db = DOMAIN.base.fork()
    with pytest.raises(DomainError, match=r"tool sneaky_read crashed .*sneaky_read is declared as a read but changes rows\['a'\]"):
        call(db, "sneaky_read")
    assert db.changes() == {}
    assert not call(db, "half", how="fine").is_error, "the next write is not held for a read"


def test_a_refused_or_crashed_call_leaves_no_trace():
    db = DOMAIN.base.fork()
    before = db.digest()
    answer = call(db, "half", how="refuse")
    assert (answer.content, answer.is_error, answer.tool_call_id, answer.name) == ("Error: no, on second thoughts", True, "7", "half")
    assert call(db, "half", how=3).is_error
    with pytest.raises(DomainError, match=r"domain rows: tool half crashed on \{'how': 'crash'\}: KeyError: 'x'"):
        call(db, "half", how="crash")
    assert (db.changes(), db.digest()) == ({}, before)
    assert not call(db, "half", how="fine").is_error
    assert set(db.changes()["rows"]) == {"a", "b"}


def test_an_unknown_tool_is_the_agents_mistake_and_names_the_closest():
    db = DOMAIN.base.fork()
    assert call(db, "halve").content == "Error: there is no tool 'halve'; did you mean half?"
    assert call(db, "fly" * 100).content.endswith("; the tools are sneaky_read, half")


@pytest.mark.parametrize("domain", INSTALLED)
def test_no_tool_answers_a_wrong_call_with_pythons_own_words(domain):
    world = load_domain(domain)
    db = world.base.fork()
    for one in world.tools:
        for arguments in ({}, {"nonsense": 1}, {name: {"a": [None]} for name in one.schema["function"]["parameters"]["properties"]}):
            answer = world.execute(db, ToolCall(name=one.name, arguments=arguments))
            if one.schema["function"]["parameters"]["properties"] or arguments:
                assert answer.is_error
                assert f"; {one.name} takes " in answer.content
            assert "positional" not in answer.content
            assert "Traceback" not in answer.content
    assert db.changes() == {}
