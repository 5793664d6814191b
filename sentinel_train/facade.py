"""The TRL facade: a domain as an `environment_factory`, for those who drive `GRPOTrainer` themselves.

    trainer = GRPOTrainer(
        model="Qwen/Qwen3-4B-Instruct-2507",
        args=GRPOConfig(...),
        train_dataset=to_dataset(domain, domain.split("train")),
        environment_factory=make_rollout_class(domain, ScriptedUser()),
    )

Here TRL holds the dialogue. It takes every public method of the environment's class for a tool, so a class is made for each domain,
with the domain's tools as methods and `message_user` beside them. `sentinel_train.train` holds the dialogue itself; beside it the
facade loses this:

- A rollout ends at the first turn without a tool call, and what that turn says reaches nobody. The user hears what `message_user`
  says and nothing else. An episode that the user has not ended by then is truncated, and its reward is 0.
- An episode cannot end a rollout. After its end each tool answers that it is over, until the model writes a turn without a call; those
  turns are trained on like all others.
- Single calls arrive, not turns: `max_steps` counts calls, and text beside a call is in no record.
- A call of an unknown tool, and one whose arguments are no object, is answered by TRL and is no error of the episode; a call that
  cannot be read is a turn without a call.
- Users are asked one rollout after the other, so a user that is a language model is slow.
- The tools stand in alphabetical order, described as far as transformers can (see `signatures`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sentinel_env import ConfigError, Domain, Episode, Message, ModelError, TaskError, Tool, ToolError, User, evaluate, record, tool

from .asking import hear
from .dataset import COLUMN, read_row
from .signatures import sign

OVER = "The conversation is over. Write a last line and call no tool."
"""What a call is answered after the end."""
RESERVED = ("reset", "get_reward", "message_user", "episode", "error")
"""What a domain's tools cannot be called here."""


@tool
def message_user(episode: Any, message: str) -> None:
    """Write to the user and read the answer.

    The user reads nothing else: a turn without a tool call ends the conversation.

    Args:
        message: What the user is to read.
    """


class _Rollout:
    """One rollout at a time; TRL keeps the instance and resets it for the next.

    What goes wrong in a call is remembered and not raised, since TRL would show it to the model as the call's result.
    """

    episode: Episode
    """The episode being played, for reward functions of the caller's own: TRL hands them the instances as `environments`."""
    error: str | None = None
    """Why the user's model could not answer. The reward is None then."""
    _crash: Exception | None = None
    _domain: Domain
    _user: User
    _limits: Mapping[str, int]

    def reset(self, **row: Any) -> str:
        """Begin the episode of a row of `to_dataset`.

        Returns:
            The user's first words, which TRL appends to the prompt.

        Raises:
            TaskError: The row holds no task, or one of another domain.
        """
        self.error = self._crash = None
        if COLUMN not in row:
            raise TaskError(f"the row has no column {COLUMN!r}, found {', '.join(row) or 'none'}; make the dataset with to_dataset()")
        task = read_row(row[COLUMN])
        if task.domain != self._domain.name:
            raise TaskError(f"task {task.id!r} is for domain {task.domain!r}, trained on {self._domain.name!r}")
        self.episode = Episode(self._domain, task, **self._limits)
        try:
            return self._ask()
        except ModelError as failure:
            self.error = f"{type(failure).__name__}: {failure}"
            return ""

    def get_reward(self) -> float | None:
        """The reward of `evaluate`; an episode that is still going on has been cut by TRL, and is truncated.

        Returns:
            1.0, 0.0, or None where the user's model could not answer: TRL then leaves the rollout out of its group's mean and gives it
            no advantage. Reward functions of the caller's own must return None there too (see `error`), or theirs alone counts.

        Raises:
            Exception: What a tool or the user crashed with, so that training stops.
        """
        if self._crash is not None:
            raise self._crash
        if self.error is None and self.episode.awaiting is not None:
            self.episode.truncate()
        return evaluate(self._domain, record(self.episode, error=self.error)).reward

    def _answer(self, called: Tool, arguments: dict[str, Any]) -> str:
        """What a call is answered."""
        if self._is_over():
            return OVER
        try:
            text = self._say(arguments) if called is message_user else self._call(called, arguments)
        except ModelError as failure:
            self.error = f"{type(failure).__name__}: {failure}"
            return OVER
        except Exception as crash:
            self._crash = crash
            return OVER
        return f"{text}\n{OVER}" if self._is_over() else text

    def _is_over(self) -> bool:
        return self.error is not None or self._crash is not None or self.episode.awaiting is None

    def _call(self, called: Tool, arguments: dict[str, Any]) -> str:
        raw = {"role": "assistant", "tool_calls": [{"name": called.name, "arguments": arguments}]}
        (answer,) = self.episode.act(Message.from_openai(raw))
        return answer.content

    def _say(self, arguments: dict[str, Any]) -> str:
        try:
            text = message_user.validate(arguments)["message"]
        except ToolError as refusal:
            message = Message(role="assistant", problem=str(refusal))
        else:
            message = Message.from_openai({"role": "assistant", "content": text})
        refused = self.episode.act(message)
        return refused[0].content if refused else self._ask()

    def _ask(self) -> str:
        (reply,) = hear([self.episode], self._user)
        return reply.content


def make_rollout_class(domain: Domain, user: User, *, max_steps: int = 30, max_errors: int = 10, seed: int = 0) -> type[Any]:
    """The class to give TRL as `environment_factory`; its name, such as `RetailRollout`, is the name of the reward in TRL's logs.

    Args:
        domain: The world. Its tools become methods.
        user: Who plays the customer.
        max_steps: How many calls an episode may take before it is truncated.
        max_errors: How many refused calls.
        seed: For the user, who sees it.

    Raises:
        ConfigError: A tool has a name that the class needs for itself or that TRL takes for private.
    """
    for name in domain.tools_by_name:
        if name in RESERVED or name.startswith("_"):
            raise ConfigError(
                f"domain {domain.name}: a tool is called {name!r}; TRL's environments cannot have one that begins with an underscore "
                f"or is called {', '.join(RESERVED)}; rename it, or train with sentinel_train.train"
            )
    limits = {"max_steps": max_steps, "max_errors": max_errors, "seed": seed}
    methods = {each.name: _method(each) for each in (*domain.tools, message_user)}
    words = re.split(r"[\W_]+", domain.name)
    title = "".join(word[:1].upper() + word[1:] for word in words)
    return type(f"{title}Rollout", (_Rollout,), {"_domain": domain, "_user": user, "_limits": limits, **methods})


def _method(called: Tool) -> Callable[..., str]:
    def method(self: _Rollout, /, **arguments: Any) -> str:
        return self._answer(called, arguments)

    return sign(method, called)
