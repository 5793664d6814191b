"""What plain settings mean: a user by name, a task by its id. Shared by the Gymnasium environment and the adapters."""

from __future__ import annotations

import difflib
import importlib
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .domain import Domain
from .episode import User
from .errors import ConfigError, SentinelError, TaskError
from .tasks import Task

USER_KEYS = ("SENTINEL_USER_API_KEY", "SENTINEL_API_KEY")
"""The environment variables that hold the key of a user's model behind a base URL; the first that is set."""
_OF_MODEL, _OF_USER = {"model", "base_url"}, {"temperature", "max_tokens", "deadline", "guards"}


def find_user(user: User | str | Mapping[str, Any] | None) -> User:
    """The user that a setting means.

    Args:
        user: A `User`; "scripted" or None for the scripted one; "module:attribute" of one (or of what makes one); or what describes a
            model as the user: `{"model": NAME, "base_url": URL}`, with the settings of `LLMUser`, and its key in `USER_KEYS`.

    Raises:
        ConfigError: It cannot be imported, is no user, or has a setting that is none.
    """
    found: Any = user
    if user is None or user == "scripted":
        from .users import ScriptedUser

        return ScriptedUser()
    if isinstance(user, Mapping):
        return _model_user(user)
    if isinstance(user, str):
        module, _, attribute = user.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
            if callable(found) and (isinstance(found, type) or not hasattr(found, "reply")):
                found = found()
        except SentinelError:
            raise
        except Exception as error:  # whatever a module of someone's own does when it is imported
            what = str(error) if isinstance(error, ImportError | AttributeError | ValueError) else f"{type(error).__name__}: {error}"
            raise ConfigError(f"user {user!r:.200} cannot be imported as module:attribute: {what}") from error
    if not callable(getattr(found, "reply", None)) or not hasattr(found, "name"):
        raise ConfigError(
            f"user {user!r:.200} has no reply(view) and name; give a User such as ScriptedUser(), or 'module:attribute' of one"
        )
    return found  # type: ignore[no-any-return]


def _model_user(settings: Mapping[str, Any]) -> User:
    from .llm import Model
    from .llm_user import LLMUser

    if unknown := sorted(map(str, set(settings) - _OF_MODEL - _OF_USER)):
        raise ConfigError(f"a user that is a model has no setting {unknown[0][:100]!r}; it takes {', '.join(sorted(_OF_MODEL | _OF_USER))}")
    if not isinstance(settings.get("model"), str):
        raise ConfigError(f"a user that is a model is described by its name, {{'model': NAME}}; found {dict(settings)!r:.200}")
    for name, value in settings.items():
        if not _FITS[name][0](value):
            raise ConfigError(f"{name} of a user that is a model is {_FITS[name][1]}, found {value!r:.100}")
    base_url = settings.get("base_url")
    key = next((os.environ[name] for name in USER_KEYS if os.environ.get(name)), None) if base_url is not None else None
    model = Model(settings["model"], base_url=base_url, api_key=key)
    return LLMUser(model, **{name: value for name, value in settings.items() if name in _OF_USER})


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


_FITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda value: isinstance(value, str), "a name"),
    "base_url": (lambda value: value is None or isinstance(value, str), "an address such as http://127.0.0.1:8000/v1"),
    "temperature": (lambda value: value is None or (_is_number(value) and value >= 0), "a number of at least 0, or None"),
    "max_tokens": (lambda value: isinstance(value, int) and _is_number(value) and value >= 1, "a whole number of at least 1"),
    "deadline": (lambda value: _is_number(value) and value > 0, "seconds above 0"),
    "guards": (lambda value: isinstance(value, bool), "True or False"),
}


def find_task(tasks: Iterable[Task], task_id: str, domain: Domain) -> Task:
    """The task of that id.

    Raises:
        TaskError: There is none.
    """
    tasks = list(tasks)
    for task in tasks:
        if task.id == task_id:
            return task
    close = difflib.get_close_matches(str(task_id), [task.id for task in tasks], n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {len(tasks)} tasks, such as {tasks[0].id!r}" if tasks else "it has none"
    raise TaskError(f"domain {domain.name} has no task {task_id!r} to play; {hint}")
