"""Tables, forks and digests: a fork behaves like a deep copy, and nobody else ever sees what it does."""

# ruff: noqa: RUF012  -- pydantic copies mutable defaults
import copy
import json
import os
import subprocess
import sys
from functools import cached_property
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError, field_validator, model_validator

from sentinel_env import Database, DatabaseError, FrozenError, Record, Table, ToolError, indexed, list_domains, load_domain


class Address(Record):
    city: str
    notes: list[str] = []


class Person(Record):
    email: str
    age: int | None = None
    tags: list[str] = []
    address: Address = Address(city="Oslo")
    extra: dict[str, Any] = {}


class Loan(Record):
    title: str
    person: str = "p0"
    status: Literal["on loan", "returned"] = "on loan"


class Town(Database):
    people: Table[Person] = indexed("age", email=lambda person: person.email.lower(), tag=lambda person: list(person.tags))
    loans: Table[Loan] = indexed("person", "status")


BASE = {
    "people": {f"p{at}": {"email": f"P{at}@x.org", "age": at % 3, "tags": ["a"] * (at % 3) + ["b"]} for at in range(6)},
    "loans": {f"L{at}": {"title": title, "person": f"p{at % 3}"} for at, title in enumerate(["Dune", "Emma", "Ulysses", "Watt", "Molloy"])},
}

# programs: each step is (fork, operation, table, key, fields)

PERSON = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from(["a@x.org", "P1@x.org"]),
        "age": st.none() | st.integers(0, 3) | st.just("old"),
        "tags": st.lists(st.sampled_from("abc"), max_size=3),
        "address": st.sampled_from([{"city": "Rome"}, {"city": "Rome", "notes": ["x"]}, {"town": "Rome"}]),
        "extra": st.dictionaries(st.sampled_from("xy"), st.lists(st.integers(0, 2), max_size=2), max_size=2),
    },
)
LOAN = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["Dune", "Watt", 3]),
        "status": st.sampled_from(["on loan", "returned", "lost"]),
        "person": st.sampled_from(["p0", "p9"]),
    },
)
OPERATIONS = st.sampled_from(["read", "update", "update", "add", "add", "remove", "refused", "fork", "find"])
STEPS = st.one_of(
    st.tuples(st.integers(0, 9), OPERATIONS, st.just("people"), st.sampled_from(["p0", "p1", "p5", "p7"]), PERSON),
    st.tuples(st.integers(0, 9), OPERATIONS, st.just("loans"), st.sampled_from(["L0", "L3", "L8"]), LOAN | PERSON),
)
PROGRAMS = st.lists(STEPS, max_size=30)


class Copy:
    """What a database is equal to: plain dicts, copied in full, validated by making a whole database of them."""

    def __init__(self, content):
        self.content = copy.deepcopy(content)
        self.origin = copy.deepcopy(content)

    def attempt(self, change):
        """Keep a change if the result is a valid database."""
        after = copy.deepcopy(self.content)
        try:
            change(after)
            self.content = Town(**after).dump()
        except (DatabaseError, KeyError, AssertionError):
            return False
        return True

    def changes(self):
        found = {}
        for table, now in self.content.items():
            before = self.origin[table]
            rows = {key: None for key in before if key not in now}
            for key, row in now.items():
                if key not in before:
                    rows[key] = row
                elif row != before[key]:
                    rows[key] = {name: value for name, value in row.items() if value != before[key][name]}
            if rows:
                found[table] = rows
        return found


def write(db, operation, table, key, fields):
    """One write; true if it was accepted."""
    rows = db.tables[table]
    try:
        if operation == "update":
            rows.update(key, **fields)
        elif operation == "add":
            rows.add(key, Person.model_validate(fields) if table == "people" else Loan.model_validate(fields))
        else:
            rows.remove(key)
    except (DatabaseError, ValueError):
        return False
    return True


def write_to_copy(model, operation, table, key, fields):
    def change(content):
        if operation == "update":
            content[table][key] = {**content[table][key], **fields}
        elif operation == "add":
            assert key not in content[table]
            content[table][key] = fields
        else:
            del content[table][key]

    return model.attempt(change)


def run(program):
    """Run a program on forks and on deep copies side by side; the pairs that it leaves, the base first."""
    base = Town(**BASE)
    pairs = [(base, Copy(base.dump())), (base.fork(), Copy(base.dump()))]
    for at, operation, table, key, fields in program:
        db, model = pairs[1 + at % (len(pairs) - 1)]
        rows = db.tables[table]
        if operation == "fork":
            pairs.append((db.fork(), Copy(model.content)))
        elif operation == "read":
            assert (rows[key].model_dump(mode="json") if key in rows else None) == model.content[table].get(key)
        elif operation == "find":
            assert_indexes_agree_with_scans(db)
        elif operation == "refused":
            before = db.changes(), db.digest()
            with pytest.raises(ToolError):
                refuse_after_writing(db, table, key, fields)
            assert (db.changes(), db.digest()) == before
        else:
            assert write(db, operation, table, key, fields) == write_to_copy(model, operation, table, key, fields)
    return pairs


def refuse_after_writing(db, table, key, fields):
    with db.atomic():
        write(db, "update", table, key, fields)
        with db.atomic():
            write(db, "remove", table, key, fields)
        write(db, "add", table, "new", fields)
        raise ToolError("no")


def assert_indexes_agree_with_scans(db):
    for value in ("p1@x.org", "a@x.org", "nobody"):
        assert db.people.find("email", value) == tuple(key for key, row in db.people.items() if row.email.lower() == value)
    for value in "abcd":
        assert db.people.find("tag", value) == tuple(key for key, row in db.people.items() if value in row.tags)
    for age in (None, 0, 1, 9):
        assert list(db.people.where(age=age).items()) == [(key, row) for key, row in db.people.items() if row.age == age]
    for email in ("P1@x.org", "p1@x.org"):
        assert list(db.people.where(email=email)) == [key for key, row in db.people.items() if row.email == email]
    assert list(db.loans.where(person="p0", title="Dune")) == [
        key for key, row in db.loans.items() if (row.person, row.title) == ("p0", "Dune")
    ]


@settings(derandomize=True, max_examples=250, deadline=None)
@given(PROGRAMS)
def test_a_program_on_forks_equals_the_same_program_on_deep_copies(program):
    pairs = run(program)
    for db, model in pairs:
        assert db.dump() == model.content
        assert db.changes() == model.changes()
        assert {name: len(table) for name, table in db.tables.items()} == {name: len(rows) for name, rows in model.content.items()}
        assert_indexes_agree_with_scans(db)
    base, untouched = pairs[0][0], Town(**BASE)
    assert (base.dump(), base.digest(), base.changes()) == (untouched.dump(), untouched.digest(), {})


@settings(derandomize=True, max_examples=150, deadline=None)
@given(PROGRAMS)
def test_changes_carry_one_database_into_the_other(program):
    for db, model in run(program):
        again = Town(**model.origin)
        again.apply(json.loads(json.dumps(db.changes())))
        assert (again.dump(), again.digest()) == (db.dump(), db.digest())


@settings(derandomize=True, max_examples=150, deadline=None)
@given(PROGRAMS, st.randoms(use_true_random=False))
def test_digests_tell_contents_apart_and_nothing_else(program, random):
    pairs = run(program)
    for db, model in pairs:
        shuffled = {name: dict(random.sample(list(rows.items()), len(rows))) for name, rows in model.content.items()}
        assert Town(**shuffled).digest() == db.digest()
    for one, model in pairs:
        for other, other_model in pairs:
            assert (one.digest() == other.digest()) == (model.content == other_model.content)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(PROGRAMS)
def test_a_diff_is_empty_exactly_when_nothing_changed_and_names_old_and_new(program):
    for db, model in run(program):
        rows = db.diff()
        assert bool(rows) == bool(db.changes())
        for row in rows:
            assert old_and_new(model.origin, model.content, row["path"]) == (row.get("old"), row.get("new"))


def old_and_new(before, after, path):
    found = []
    for content in (before, after):
        for part in path.split("/")[1:]:
            content = (
                content.get(part) if isinstance(content, dict) else content[int(part)] if content and int(part) < len(content) else None
            )
        found.append(content)
    return tuple(found)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(PROGRAMS)
def test_a_dump_loads_again(program):
    for db, _ in run(program):
        again = Town.load(json.loads(json.dumps(db.dump())))
        assert (again.dump(), again.digest(), again.changes()) == (db.dump(), db.digest(), {})


def test_digests_do_not_depend_on_the_process_or_its_hash_seed():
    code = """
from sentinel_env import load_domain
db = load_domain("library").base.fork()
db.loans.update("L1", status="renewed")
print(db.digest(), load_domain("retail", users=30, orders=60, products=5).base.digest(), db.changes())
"""
    results = set()
    for seed in ("0", "1", "77"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        results.add(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(results) == 1


# records cannot be changed in place

MUTATIONS = [
    lambda person: setattr(person, "email", "x"),
    lambda person: delattr(person, "email"),
    lambda person: setattr(person.address, "city", "x"),
    lambda person: person.tags.append("x"),
    lambda person: person.tags.extend(["x"]),
    lambda person: person.tags.insert(0, "x"),
    lambda person: person.tags.sort(),
    lambda person: person.tags.reverse(),
    lambda person: person.tags.clear(),
    lambda person: person.tags.pop(),
    lambda person: person.tags.remove("b"),
    lambda person: person.tags.__setitem__(0, "x"),
    lambda person: person.tags.__delitem__(0),
    lambda person: person.tags.__iadd__(["x"]),
    lambda person: person.tags.__imul__(2),
    lambda person: person.address.notes.append("x"),
    lambda person: person.extra.update(x=1),
    lambda person: person.extra.__setitem__("x", 1),
    lambda person: person.extra.__ior__({"x": 1}),
    lambda person: person.extra.setdefault("x", 1),
    lambda person: person.extra.clear(),
    lambda person: person.extra.pop("deep"),
    lambda person: person.extra.popitem(),
    lambda person: person.extra.__delitem__("deep"),
    lambda person: person.extra["deep"][0].append(1),
    lambda person: person.extra["deep"][0][0].update(z=1),
]


@pytest.mark.parametrize("at", range(len(MUTATIONS)))
def test_changing_a_record_that_was_read_raises_and_changes_nothing(at):
    base = Town(people={"p": {"email": "a@x.org", "tags": ["b"], "extra": {"deep": [[{"z": 0}]]}}})
    fork = base.fork()
    fork.people.update("p", age=3)
    for db in (base, fork):
        text, digest, changes = db.people["p"].json_text, db.digest(), db.changes()
        with pytest.raises(FrozenError, match=r"cannot be (changed in place|deleted)"):
            MUTATIONS[at](db.people["p"])
        fresh = Town(**db.dump())
        assert (fresh.people["p"].json_text, fresh.digest(), db.changes()) == (text, digest, changes)


def test_a_record_does_not_share_the_lists_it_was_made_from():
    tags = ["a"]
    db = Town(people={"p": {"email": "a@x.org", "tags": tags}})
    tags.append("b")
    assert db.people["p"].tags == ["a"]
    db.people.update("p", tags=tags)
    tags.append("c")
    assert db.people["p"].tags == ["a", "b"]


def test_frozen_lists_and_dicts_behave_like_lists_and_dicts():
    person = Person(email="a@x.org", tags=["b", "a"], extra={"x": [1]})
    assert person.tags == ["b", "a"]
    assert [*person.tags, "c"] == person.tags + ["c"]  # noqa: RUF005
    assert sorted(person.tags) == ["a", "b"]
    assert person.extra | {"y": 2} == {"x": [1], "y": 2}
    assert json.dumps(person.extra) == '{"x": [1]}'
    assert copy.deepcopy(person) == person
    assert Person.model_validate_json(person.model_dump_json()) == person


# the text of a record

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), st.text(), st.lists(st.text(), max_size=3))
def test_a_records_text_is_pythons_json_of_its_fields(extra, email, notes):
    person = Person(email=email, extra=extra, address=Address(city=email, notes=notes))
    assert person.json_text == json.dumps(person.model_dump(mode="json"))


@pytest.mark.parametrize("domain", sorted(list_domains()))
def test_every_records_text_is_pythons_json_of_its_fields(domain):
    for table in load_domain(domain).base.tables.values():
        for record in list(table.values())[:200]:
            assert record.json_text == json.dumps(record.model_dump(mode="json"))


def test_a_record_that_serialises_in_its_own_way_is_spelt_in_that_way():
    from datetime import date

    from pydantic import Field, computed_field, field_serializer

    class Base(Record):
        x: int = 1

    class Sub(Base):
        y: int = 2

    class Odd(Record):
        day: date = date(2026, 1, 2)
        secret: int = Field(5, exclude=True)
        held: Base = Sub()
        numbers: dict[int, int] = {1: 2}
        big: tuple[int, ...] = (1, 2)

        @field_serializer("day")
        def spell_day(self, day: date) -> str:
            return f"{day:%d.%m.%Y}"

        @computed_field
        @property
        def double(self) -> int:
            return 2

    for record in (Odd(), Odd().held, Dated(), Holder(odd=Odd())):
        assert record.json_text == json.dumps(record.model_dump(mode="json", warnings=False))


class Dated(Record):
    value: Any = (1, {"a": {3}})


class Holder(Record):
    odd: Any


def test_a_field_may_be_called_text_but_not_as_what_every_record_has():
    class Post(Record):
        text: str

    assert Post(text="x").json_text == '{"text": "x"}'
    with pytest.raises(DatabaseError, match="Bad: a field cannot be called 'replace'"), pytest.warns(UserWarning, match="shadows"):

        class Bad(Record):
            replace: str


# replace() validates what changes only, and must not be told from validating the whole record


@settings(derandomize=True, max_examples=300, deadline=None)
@given(PERSON, st.dictionaries(st.sampled_from(["age", "tags", "address", "extra", "phone"]), VALUES, max_size=2), st.booleans())
def test_a_replaced_record_is_what_validating_all_of_it_gives(fields, wild, spelt):
    person = Person(email="a@x.org", tags=["a"], extra={"x": [1]})
    changes = fields | wild
    if spelt:
        _ = person.json_text, person.json_hash, hash(person.address)
    whole = {name: getattr(person, name) for name in Person.model_fields} | changes
    found, expected = (record_or_errors(make) for make in (lambda: person.replace(**changes), lambda: Person.model_validate(whole)))
    if not isinstance(expected, Person):
        assert found == expected
        return
    assert (found, found.model_fields_set) == (expected, expected.model_fields_set)
    assert (found.json_text, found.json_hash) == (expected.json_text, expected.json_hash)
    assert [type(value) for value in found.__dict__.values()] == [type(value) for value in expected.__dict__.values()]
    with pytest.raises(FrozenError):
        found.tags.append("b")


def record_or_errors(make):
    try:
        return make()
    except ValidationError as error:
        return error.errors()


class Span(Record):
    start: int
    end: int

    @property
    def text(self):
        return f"{self.start}-{self.end}"


class Checked(Span):
    @model_validator(mode="after")
    def end_comes_last(self):
        if self.end < self.start:
            raise ValueError("ends before it starts")
        return self


class Compared(Span):
    @field_validator("end")
    @classmethod
    def end_comes_last(cls, end, info):
        if end < info.data["start"]:
            raise ValueError("ends before it starts")
        return end


class Initialised(Span):
    def model_post_init(self, context):
        super().model_post_init(context)
        if self.end < self.start:
            raise ValueError("ends before it starts")


@pytest.mark.parametrize("record_type", [Checked, Compared, Initialised])
def test_replacing_one_field_keeps_what_a_record_says_of_several(record_type):
    span = record_type(start=1, end=2)
    assert span.replace(start=2, end=9).text == "2-9"
    with pytest.raises(ValueError, match="ends before it starts"):
        span.replace(start=3)


def test_what_a_record_keeps_besides_its_fields_is_not_taken_over():
    class Length(Span):
        @cached_property
        def length(self):
            return self.end - self.start

    span = Length(start=1, end=4)
    assert (span.length, span.replace(end=9).length) == (3, 8)
    assert span == Length(start=1, end=4) != span.replace(end=9)
    assert hash(span) == hash(Length(start=1, end=4))
    assert span != Span(start=1, end=4)


def test_records_that_hold_their_own_kind_can_be_replaced():
    class Node(Record):
        name: str
        inside: list["Node"] = []
        home: Address = Address(city="Oslo")
        work: Address = Address(city="Rome")

    tree = Node(name="a", inside=[Node(name="b")])
    assert tree.replace(name="c").inside == tree.inside
    assert tree.replace(home={"city": "Bonn"}, inside=[]).json_text == json.dumps(
        {"name": "a", "inside": [], "home": {"city": "Bonn", "notes": []}, "work": {"city": "Rome", "notes": []}}
    )


# errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"peple": {}}, r"Town has no table 'peple'; its tables: people, loans"),
        ({"people": []}, r"table people: expected an object of key to record, found list"),
        ({"people": {"p": {"email": 3}}}, r"people\['p'\]\.email: Input should be a valid string \(found 3\); Person has email, age"),
        ({"people": {"p": {}}}, r"people\['p'\]\.email: Field required"),
        ({"people": {"p": {"email": "x", "phone": "1"}}}, r"people\['p'\]\.phone: Extra inputs are not permitted"),
        ({"people": {"p": {"email": "x", "address": {"city": 1}}}}, r"people\['p'\]\.address\.city: Input should be a valid string"),
        ({"people": {7: {"email": "x"}}}, r"table people: a key is a string, found 7"),
        (
            {"loans": {"L": {"title": "x", "status": "lost"}}},
            r"loans\['L'\]\.status: Input should be 'on loan' or 'returned' \(found 'lost'",
        ),
    ],
)
def test_bad_data_is_named_by_table_key_and_field(content, message):
    with pytest.raises(DatabaseError, match=message):
        Town.load(content)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DatabaseError, match=r"cannot read .*nothing\.json: No such file"):
        Town.load(tmp_path / "nothing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DatabaseError, match=r"bad\.json is not JSON: "):
        Town.load(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DatabaseError, match="expected an object of tables, found list"):
        Town.load(tmp_path / "list.json")
    (tmp_path / "good.json").write_text(json.dumps(Town(**BASE).dump()))
    assert Town.load(str(tmp_path / "good.json")).digest() == Town(**BASE).digest()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda db: db.people.update("nobody", age=1), r"people has no record 'nobody'; use add\(\)"),
        (lambda db: db.people.update("p1", age="old"), r"people\['p1'\]\.age: "),
        (lambda db: db.people.update("p1", aged=1), r"people\['p1'\]\.aged: Extra inputs"),
        (lambda db: db.people.add("p1", Person(email="x")), r"people already has 'p1'; use update\(\)"),
        (lambda db: db.people.add("q", Loan(title="x")), "people holds Person, found Loan"),
        (lambda db: db.people.add(3, Person(email="x")), "people: a key is a string, found 3"),
        (lambda db: db.people.remove("nobody"), "people has no record 'nobody' to remove"),
        (lambda db: db.people.find("phone", "1"), "people has no index 'phone'; declared: age, email, tag"),
        (lambda db: db.people.where(phone="1"), "people has no field 'phone'; Person has email, "),
        (lambda db: db.apply({"loans": {"L1": {"status": "returned"}, "nothing": None}}), "loans has no record 'nothing' to remove"),
        (lambda db: db.apply({"people": {"p1": {"age": 9}}, "cars": {}}), "Town has no table 'cars'"),
    ],
)
def test_a_refused_write_says_why_and_changes_nothing(act, message):
    db = Town(**BASE).fork()
    db.loans.update("L0", status="returned")
    before = db.dump(), db.changes(), db.digest()
    with pytest.raises(DatabaseError, match=message):
        act(db)
    assert (db.dump(), db.changes(), db.digest()) == before


def test_a_database_without_tables_or_with_unknown_types_is_refused_when_it_is_declared():
    with pytest.raises(DatabaseError, match="Empty declares no table"):

        class Empty(Database):
            pass

    with pytest.raises(DatabaseError, match="define the records above the database"):

        class Wrong(Database):
            rows: "Table[Nowhere]"  # noqa: F821


def test_forking_costs_the_same_whatever_the_size():
    small, large = Town(**BASE), Town(people={f"p{at}": Person(email="x") for at in range(5000)})
    for db in (small, large):
        fork = db.fork()
        assert all(table._base is db.tables[name]._base for name, table in fork.tables.items())
        assert not any(table._overlay for table in fork.tables.values())


def test_random_programs_from_a_plain_generator_too():
    """Longer programs than hypothesis makes."""
    random = Random(0)
    fields = [{"email": "z@x.org"}, {"age": 2}, {"tags": ["c", "c"]}, {"title": "Watt"}, {"status": "returned"}, {"email": 3}]
    program = [
        (
            random.randrange(10),
            random.choice(["update", "update", "add", "remove", "refused", "fork", "find"]),
            random.choice(["people", "loans"]),
            random.choice(["p0", "p1", "p7", "p8", "L0", "L3", "L8"]),
            random.choice(fields),
        )
        for _ in range(400)
    ]
    for db, model in run(program)[:40]:
        assert db.dump() == model.content
        assert db.changes() == model.changes()
