"""LLMAgent: any model as the assistant, through its own tool calls or, where it has none, in text.

    async with Model("qwen3", base_url="http://127.0.0.1:8000/v1") as model:
        await arun_tasks(domain, tasks, LLMAgent(model), ScriptedUser())

It keeps no state: each turn is asked for with the policy, the tools and the whole dialogue. What the model gets wrong, such as arguments
that are no JSON, an unknown tool, an empty answer or a thought without an end, is the agent's mistake and is shown to it; only what
stands between it and us is a `ModelError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .domain import Domain
from .episode import AgentView
from .errors import ConfigError, ModelError
from .llm import Completion, Model, ModelMessage
from .messages import MAX_ACTION_CHARACTERS, Message, ToolCall, parse_action
from .prompt_texts import fill

_TOOLS_REFUSED = re.compile(r"\btools?\b|tool[_-]call|function.call", re.IGNORECASE)
_NOTHING_SAID = "(no answer)"
"""Stands for an empty message in the dialogue, since many servers refuse one."""


class LLMAgent:
    """A model as the assistant."""

    def __init__(
        self,
        model: Model,
        *,
        temperature: float | None = 0.0,
        max_tokens: int = 4096,
        deadline: float = 600.0,
        tools_in_text: bool = False,
        keeps_reasoning: bool = True,
        name: str | None = None,
    ) -> None:
        """Choose how the model is asked.

        Args:
            model: The model; whoever made it closes it, or `close` does.
            temperature: 0 as in tau2-bench; the provider's own for None.
            max_tokens: Of one turn, reasoning included. A dialogue that leaves no room for them is too long for the model.
            deadline: Seconds for one turn, waiting and further attempts included.
            tools_in_text: For models and servers without tool calls: the tools stand in the prompt, calls are read from the text.
            keeps_reasoning: Whether a model sees its reasoning of earlier turns again, where the provider hands it out.
            name: How results name the agent; as the model's name for None.

        Raises:
            ConfigError: The provider takes no tools.
        """
        if not tools_in_text and not model.takes_tools:
            raise ConfigError(
                f"the provider of model {model.name!r} takes no tools; put them in the prompt: tools_in_text, --tools-in-text"
            )
        self.model = model
        self.name = name or model.name
        self.settings: dict[str, Any] = {
            "model": model.name,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "tools_in_text": tools_in_text,
            "keeps_reasoning": keeps_reasoning,
        }
        """What decides the results, besides the seeds, which are those of the episodes."""
        self._deadline = deadline

    async def act(self, view: AgentView, /) -> Message:
        """Ask the model for the next turn.

        Raises:
            ModelError: There is no answer; of the kind `context` where the dialogue is too long for the model.
        """
        in_text, max_tokens = self.settings["tools_in_text"], self.settings["max_tokens"]
        messages = (
            _as_text(view) if in_text else [Message(role="system", content=instructions(view.domain)), *map(self._sent, view.messages)]
        )
        try:
            completion = await self.model.complete(
                messages,
                tools=() if in_text else view.domain.schemas,
                temperature=self.settings["temperature"],
                seed=view.seed,
                max_tokens=max_tokens,
                deadline=self._deadline,
                may_be_empty=True,
                may_decline=True,
            )
        except ModelError as error:
            if error.kind == "refused" and not in_text and _TOOLS_REFUSED.search(str(error)):
                raise ModelError(f"{error}; a server without tool calls needs tools_in_text (--tools-in-text)", kind="refused") from None
            raise
        return _read(completion, view.messages, max_tokens=max_tokens)

    async def close(self) -> None:
        """Close the model's connections; the next turn opens them again."""
        await self.model.close()

    def _sent(self, message: Message) -> Message:
        """A message of the dialogue as the model gets it."""
        if message.role == "assistant" and not message.content.strip() and not message.tool_calls:
            return Message(role="assistant", content=_NOTHING_SAID)
        if isinstance(message, ModelMessage) and (message.role != "assistant" or not self.settings["keeps_reasoning"]):
            return message.plain()
        return message


def instructions(domain: Domain) -> str:
    """The system message: the policy, as in training; for tau2-bench's own data inside its protocol."""
    return fill("tau2_agent", policy=domain.policy) if domain.dialect == "tau2" else domain.policy


def _as_text(view: AgentView) -> list[Message]:
    """The dialogue for a model without tool calls: tools in the system message, calls as JSON, their answers in the user's messages."""
    domain = view.domain
    system = fill("text_agent", policy=domain.policy, tools="\n".join(map(json.dumps, domain.schemas)))
    rows = [Message(role="system", content=system)]
    for message in view.messages:
        if message.role == "assistant":
            rows.append(Message(role="assistant", content=_spelled(message)))
        elif rows[-1].role == "user":
            rows[-1] = Message(role="user", content=f"{rows[-1].content}\n{message.role}: {message.content}")
        else:
            rows.append(Message(role="user", content=f"{message.role}: {message.content}"))
    return rows


def _spelled(message: Message) -> str:
    if not message.tool_calls:
        return message.content if message.content.strip() else _NOTHING_SAID
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return json.dumps(calls[0] if len(calls) == 1 else calls)


def _read(completion: Completion, before: Sequence[Message], *, max_tokens: int) -> ModelMessage:
    """What a completion means. Text is read as everywhere else, so a server that does not know its model's calls does no harm."""
    text, turn = completion.text, len(before)
    taken = {call.id for message in before for call in message.tool_calls if call.id}
    if completion.calls or completion.problem:
        calls = with_ids(completion.calls, turn, taken)
        read = Message(role="assistant", content=text[:MAX_ACTION_CHARACTERS], tool_calls=calls, problem=completion.problem)
    elif text.lstrip().startswith("<think>"):
        read = Message(role="assistant", problem="the message ended before </think>; think less, then write to the user or call a tool")
    elif not text.strip() and completion.finish == "length":
        problem = f"the message was cut at {max_tokens} tokens before it said anything; think less, then write to the user or call a tool"
        read = Message(role="assistant", problem=problem)
    else:
        read = parse_action(text)
        read = read.model_copy(update={"tool_calls": with_ids(read.tool_calls, turn, taken)})
    fields: Mapping[str, Any] = {name: getattr(read, name) for name in read.model_fields_set}
    return ModelMessage(**fields, reasoning=completion.reasoning, usage=completion.usage)


def with_ids(calls: Sequence[ToolCall], turn: int, taken: Iterable[str] = ()) -> tuple[ToolCall, ...]:
    """The calls with the provider's identifiers; one that lacks its own, or has another call's, gets a fresh one.

    Args:
        calls: Of one turn.
        turn: Its place in the dialogue.
        taken: The identifiers of earlier turns. Some servers begin anew in every turn, and providers refuse a dialogue with one twice.
    """
    return tuple(_with_ids(calls, turn, set(taken)))


def _with_ids(calls: Sequence[ToolCall], turn: int, seen: set[str]) -> Iterable[ToolCall]:
    for at, call in enumerate(calls):
        identifier = call.id if call.id and call.id not in seen else f"call_{turn}_{at}"
        while identifier in seen:
            identifier += "_"
        seen.add(identifier)
        yield call if identifier == call.id else call.model_copy(update={"id": identifier})
