"""Thoughts in a model's text, which a server without a reasoning parser leaves there: taken out as for `LLMAgent`, so that the user does
not hear them and a model earns the same through every adapter.

    read_text("They want a renewal.</think>Shall I go ahead?").content       # 'Shall I go ahead?'
"""

from __future__ import annotations

from .messages import MAX_ACTION_CHARACTERS, Message, parse_action

_OPEN, _CLOSE = "<think>", "</think>"
_ACTIONS = ("{", "[", "```", "<tool_call>")
"""A text that begins so is an action from its first character; the marks may stand in an argument."""
_ENDLESS = "the message ended before </think>; think less, then write to the user or call a tool"


def read_text(text: str) -> Message:
    """What a model wrote, as `parse_action` reads it without the thought before it."""
    if not isinstance(text, str):
        return parse_action(text)
    said = _after_thought(text)
    return Message(role="assistant", problem=_ENDLESS) if said is None else parse_action(said)


def without_thought(message: Message) -> Message:
    """A message in OpenAI's form without the thought in its text; one that is nothing but the beginning of a thought, or too long to be
    read, gets a `problem`."""
    if _CLOSE not in message.content and _OPEN not in message.content:
        return _bounded(message)
    said = _after_thought(message.content)
    if said is None:
        ended = message.problem or (None if message.tool_calls else _ENDLESS)
        return message.model_copy(update={"content": "", "problem": ended})
    return _bounded(message.model_copy(update={"content": said}))


def _bounded(message: Message) -> Message:
    return message if message.tool_calls or len(message.content) <= MAX_ACTION_CHARACTERS else parse_action(message.content)


def _after_thought(text: str) -> str | None:
    """The text without the thought that it begins with, whose opening mark some chat templates write themselves; None where it has no
    end."""
    begun = text.lstrip()
    if begun.startswith(_ACTIONS):
        return text
    thought, closed, said = begun.partition(_CLOSE)
    if closed:
        return said.lstrip()
    return None if thought.startswith(_OPEN) else text
