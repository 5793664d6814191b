"""Records: frozen pydantic models whose lists and dicts are frozen too.

A record is shared by every episode that reads it, so nothing that reads it may change it. That buys two things: a fork of the
database costs nothing, and the text that the agent sees and the digest of a record are computed once and kept with it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property, partial
from json.encoder import encode_basestring_ascii as _quoted
from types import NoneType
from typing import Any, Never, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import SchemaValidator
from pydantic_core.core_schema import definitions_schema

from .errors import DatabaseError, FrozenError
from .frozen import FROZEN_TYPES, FrozenDict, FrozenList, freeze

R = TypeVar("R", bound="Record")
T = TypeVar("T")


class _Kept(cached_property[T]):
    """A cached property without Python 3.11's lock, which takes longer than what it guards: in a race both sides compute the same."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> T:  # type: ignore[override]
        if instance is None:
            return self  # type: ignore[return-value]
        value = instance.__dict__[self.attrname] = self.func(instance)
        return value


class Record(BaseModel):
    """One row of a table. Subclass it with typed fields; unknown fields and wrong types are refused.

    >>> class Loan(Record):
    ...     title: str
    ...     renewals: list[str] = []
    >>> loan = Loan(title="Dune")
    >>> loan.renewals.append("2026-01-01")
    Traceback (most recent call last):
    ...
    sentinel_env.errors.FrozenError: a FrozenList of a record cannot be changed in place (append); use table.update(key, field=value)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(_Kept,))

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if taken := sorted({"json_hash", "json_text", "replace"} & set(cls.model_fields)):
            raise DatabaseError(f"{cls.__name__}: a field cannot be called {taken[0]!r}, which every record has; choose another name")
        if cls.model_config.get("frozen"):
            FROZEN_TYPES.add(cls)

    def model_post_init(self, context: Any, /) -> None:
        """Freeze the lists and dicts that the fields hold."""
        fields = self.__dict__
        for name, value in fields.items():
            if type(value) not in FROZEN_TYPES:
                fields[name] = freeze(value)

    def __setattr__(self, name: str, value: Any) -> Never:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be changed in place; use table.update(key, {name}=value)")

    def __delattr__(self, name: str) -> Never:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be deleted; a record is frozen")

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; pydantic's own takes long where a record keeps more than its fields."""
        if type(other) is not type(self):
            return NotImplemented
        mine, others = self.__dict__, other.__dict__
        for name in type(self).__pydantic_fields__:
            if mine[name] is not others[name] and mine[name] != others[name]:
                return False
        return bool(self.__pydantic_extra__ == other.__pydantic_extra__ and self.__pydantic_private__ == other.__pydantic_private__)

    @_Kept
    def json_text(self) -> str:
        """The record as the JSON text that an agent sees: fields in their declared order, absent optional fields as null.

        It is `json.dumps(self.model_dump(mode="json"))`, composed field by field. The lists and dicts among the fields keep their text
        too, so that a changed order does not spell its unchanged lines again.
        """
        layout = _layout(type(self))
        if layout is not None:
            try:
                return _spelled(self, *layout)
            except KeyError:  # a value whose JSON only pydantic knows
                pass
        return json.dumps(self.model_dump(mode="json"))

    @_Kept
    def json_hash(self) -> bytes:
        """SHA-256 of the record's JSON with sorted keys, 32 bytes."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).digest()

    def replace(self, **changes: Any) -> Any:
        """A validated copy with some fields changed.

        Raises:
            pydantic.ValidationError: A field is unknown or a value does not fit it.
        """
        kept, record_type = self.__dict__, type(self)
        validators = _field_validators(record_type)
        if validators is not None:
            try:
                valid = {name: freeze(validators[name](value)) for name, value in changes.items()}
            except (KeyError, ValidationError):
                pass  # validating all of it words the refusal
            else:
                fields = kept.copy()
                fields.pop("json_text", None)
                if len(fields) != len(validators):  # it keeps something else besides its fields
                    fields = {name: kept[name] for name in validators}
                return _made_of(record_type, fields | valid)
        return record_type.model_validate({name: kept[name] for name in record_type.model_fields} | changes)


def plain(record: Record, fields: set[str] | None = None) -> dict[str, Any]:
    """All or some fields as plain JSON values: `model_dump(mode="json")` without what it looks at each time before it begins."""
    return record.__pydantic_serializer__.to_python(record, mode="json", include=fields)  # type: ignore[no-any-return]


def first_error(error: ValidationError) -> str:
    """Pydantic's first complaint as `field.path: what is wrong`."""
    detail = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in detail["loc"])
    found = detail.get("input")
    shown = f" (found {found!r:.80})" if not isinstance(found, Mapping | Record) else ""
    return f"{path}: {detail['msg']}{shown}" if path else f"{detail['msg']}{shown}"


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a core schema, which is how pydantic describes a type to its validator."""
    queue = [schema]
    while queue:
        part = queue.pop()
        if isinstance(part, dict):
            yield part
            queue.extend(part.values())
        elif isinstance(part, list | tuple):
            queue.extend(part)


@cache
def _field_validators(record_type: type[Record]) -> dict[str, Callable[[Any], Any]] | None:
    """What validates each field by itself, so that a changed record does not validate its unchanged fields again.

    None where that would not do: the type has validators, aliases or an initialisation of its own, which may look at several fields.
    """
    schema: Any = record_type.__pydantic_core_schema__
    definitions = []
    if schema["type"] == "definitions":
        definitions, schema = schema["definitions"], schema["schema"]
    is_plain = (
        schema["type"] == "model"
        and schema["schema"]["type"] == "model-fields"
        and not schema["custom_init"]
        and schema["config"].get("extra_fields_behavior") == "forbid"
        and record_type.model_post_init is Record.model_post_init
        and not any(str(part.get("type")).startswith("function") or "validation_alias" in part for part in _parts([schema, definitions]))
    )
    if not is_plain:
        return None
    fields = schema["schema"]["fields"].items()
    return {
        name: SchemaValidator(definitions_schema(field["schema"], definitions), schema["config"]).validate_python for name, field in fields
    }


def _made_of(record_type: type[R], fields: dict[str, Any]) -> R:
    """A record of valid and frozen fields."""
    record = record_type.__new__(record_type)
    place = object.__setattr__
    place(record, "__dict__", fields)
    place(record, "__pydantic_fields_set__", set(fields))
    place(record, "__pydantic_extra__", None)
    place(record, "__pydantic_private__", None)
    return record


_Spellers = dict[type, Callable[[Any], str]]


_Layout = tuple[tuple[tuple[str, str], ...], _Spellers]
"""(name, `"name": `) of each field, and what spells a value of each type that it may hold."""


def _spelled(record: Record, prefixes: tuple[tuple[str, str], ...], spell: _Spellers) -> str:
    fields = record.__dict__
    return "{" + ", ".join([prefix + spell[type(value := fields[name])](value) for name, prefix in prefixes]) + "}"


@cache
def _layout(record_type: type[Record]) -> _Layout | None:
    """How to compose the text; None where the type has serialisers, aliases, excluded or computed fields, which only pydantic knows."""

    def spell_list(items: FrozenList) -> str:
        return "[" + ", ".join([spell[type(item)](item) for item in items]) + "]"

    def spell_dict(items: FrozenDict) -> str:
        return "{" + ", ".join([f"{_key(key)}: {spell[type(item)](item)}" for key, item in items.items()]) + "}"

    def kept(items: FrozenList | FrozenDict) -> str:
        try:
            return items.json_text
        except AttributeError:
            items.json_text = spell[type(items)](items)
            return items.json_text

    spell: _Spellers = {
        str: _quoted,
        NoneType: {None: "null"}.__getitem__,
        bool: {True: "true", False: "false"}.__getitem__,
        int: int.__repr__,
        float: _finite,
        FrozenList: spell_list,
        FrozenDict: spell_dict,
    }
    for part in _parts(record_type.__pydantic_core_schema__):
        if part.get("computed_fields") or any(str(name).startswith("serialization") for name in part):
            return None
        if part.get("type") == "model" and issubclass(part["cls"], Record):
            spell[part["cls"]] = partial(_spelled, prefixes=_prefixes(part["cls"]), spell=spell)
    return _prefixes(record_type), spell | {FrozenList: kept, FrozenDict: kept}


def _prefixes(record_type: type[Record]) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{_quoted(name)}: ") for name in record_type.model_fields)


def _finite(value: float) -> str:
    if not math.isfinite(value):
        raise KeyError(value)
    return float.__repr__(value)


def _key(value: Any) -> str:
    if type(value) is not str:
        raise KeyError(value)
    return _quoted(value)
