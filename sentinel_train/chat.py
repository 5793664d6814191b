"""Chat: messages to token ids and back, turn by turn.

A dialogue's ids only ever grow: what the model sampled is kept as it was sampled and never tokenised again, and what answers it
(tool results, the user's words) is appended as the ids that the chat template puts there. So the ids that are trained on are those
of the dialogue. A model's reasoning stays in them: it is trained on, and the user does not hear it.

The rollouts of a group open alike and are often answered alike, so ids are kept by what the template was given: of an update's answers
with the tiny Solver one in four is new.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sentinel_env import ConfigError, Domain, Message, ToolCall, parse_action

_MARK = "sentinelmark"
_HOW = ", as `python -m sentinel_train.prepare MODEL --out FOLDER --template qwen2_5` does for models that speak ChatML"
_THINK, _THOUGHT = "<think>", "</think>"
_OPENINGS, _ANSWERS = 64, 1024
"""How many of each have their ids kept: those of a group come one after another, and with a long policy an opening takes 200 KB."""


class Chat:
    """A tokenizer with its chat template, for the dialogues of one domain."""

    def __init__(self, tokenizer: Any, domain: Domain) -> None:
        """Check that the chat template can render tool calls and appends turns without rewriting earlier ones.

        Raises:
            ConfigError: It cannot; the text names what to set.
        """
        self.tokenizer = tokenizer
        self.domain = domain
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                f"the model's tokenizer has no chat template; set tokenizer.chat_template to one that renders tool calls{_HOW}"
            )
        if tokenizer.eos_token_id is None:
            raise ConfigError("the model's tokenizer has no end-of-turn token; set tokenizer.eos_token, such as <|im_end|>")
        self.end_id: int = tokenizer.eos_token_id
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_id
        call, answer = ToolCall(name=_MARK, arguments={"loan": _MARK}), Message(role="tool", content=_MARK, name="tool")
        try:
            hello = Message(role="user", content="hi")
            text = self._render([*map(_row, (hello, Message(role="assistant", tool_calls=(call,)), answer))])
            start = self._render([_row(hello)])
        except Exception as error:  # jinja2's, or whatever a template raises by itself
            raise ConfigError(
                f"the model's chat template refuses a tool call and its answer ({str(error)[:200]}); "
                f"set tokenizer.chat_template to one that renders them{_HOW}"
            ) from error
        if text.count(_MARK) < 3:
            raise ConfigError(
                "the model's chat template does not render tool calls with their arguments and answers; "
                f"set tokenizer.chat_template to one that does{_HOW}"
            )
        self.thinks: bool = start.rstrip().endswith(_THINK)
        """Whether every turn of the model begins inside its reasoning, as the template has it."""
        self._opened, self._followed = lru_cache(_OPENINGS)(self._open), lru_cache(_ANSWERS)(self._follow)

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a dialogue so far, with the policy and the tools before it and the start of the model's turn after it."""
        return list(self._opened(json.dumps([_row(message) for message in messages])))

    def following(self, messages: Sequence[Message]) -> list[int]:
        """The ids that come after a sampled turn: what answered it, and the start of the model's next turn.

        Raises:
            ConfigError: The template ends the model's turn with something else than the end-of-turn token.
        """
        return list(self._followed(json.dumps([_row(message) for message in messages]), messages[0].role == "tool"))

    def parse(self, ids: Sequence[int]) -> Message:
        """What the sampled ids of one turn mean, without reasoning; an unreadable call or an unfinished thought sets `problem`."""
        text = self.tokenizer.decode([token for token in ids if token != self.end_id], skip_special_tokens=False)
        if self.thinks or text.lstrip().startswith(_THINK):
            _, closing, text = text.partition(_THOUGHT)
            if not closing:
                return Message(
                    role="assistant", problem=f"the message ended before {_THOUGHT}; think less, then write to the user or call a tool"
                )
            text = text.lstrip()
        return parse_action(text)

    def spell(self, message: Message) -> list[int]:
        """The ids by which a model would have written this message, for demonstrations; the end-of-turn token is the last."""
        text = text_of(message)
        return [*self._encode(f"\n{_THOUGHT}\n\n{text}" if self.thinks else text), self.end_id]

    def _open(self, rows: str) -> list[int]:
        system = _row(Message(role="system", content=self.domain.policy))
        return self._encode(self._render([system, *json.loads(rows)], tools=self.domain.schemas))

    def _follow(self, rows: str, called: bool) -> list[int]:
        calls = (ToolCall(name="tool", arguments={}),) if called else ()
        before = [Message(role="user", content="hi"), Message(role="assistant", content=_MARK, tool_calls=calls)]
        text = self._render([*map(_row, before), *json.loads(rows)])
        end = self.tokenizer.eos_token
        at = text.find(end, text.find(_MARK))
        if at == -1:
            raise ConfigError(f"the chat template does not end an assistant's turn with {end!r}; set tokenizer.eos_token to what ends it")
        return self._encode(text[at + len(end) :])

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _render(self, rows: list[dict[str, Any]], *, tools: list[dict[str, Any]] | None = None) -> str:
        return str(self.tokenizer.apply_chat_template(rows, tools=tools, tokenize=False, add_generation_prompt=True))


def text_of(message: Message) -> str:
    """An assistant's message as a model writes it: its text, or Hermes/Qwen `<tool_call>` blocks."""
    blocks = [f"<tool_call>\n{json.dumps({'name': call.name, 'arguments': call.arguments})}\n</tool_call>" for call in message.tool_calls]
    return "\n".join([message.content, *blocks] if message.content else blocks)


def _row(message: Message) -> dict[str, Any]:
    """A message as chat templates take it: OpenAI's form with arguments as an object."""
    row = message.to_openai()
    for call, raw in zip(message.tool_calls, row.get("tool_calls", ()), strict=True):
        raw["function"]["arguments"] = call.arguments
    return row
