"""LLMUser: any model as the customer, by tau2-bench's protocol, with guards that do not depend on its goodwill.

    async with Model("qwen3", base_url="http://127.0.0.1:8000/v1") as model:
        await arun_tasks(domain, tasks, agent, LLMUser(model))

The model sees the scenario and the words exchanged, with the roles turned round, and ends the conversation by a stop token. What it says
goes through `user_guards` and `user_complaints`: what can be mended is, a complaint goes back to it once, and what is still wrong then is
marked as the user's fault: in `Message.problem`, which the trajectory keeps at the very message. It keeps no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .domain import Domain
from .episode import STOP, TRANSFER, UserView
from .errors import ModelError
from .llm import Completion, Model, ModelMessage
from .llm_budget import Usage
from .messages import MAX_ACTION_CHARACTERS, Message
from .prompt_texts import fill
from .tasks import Scenario
from .user_complaints import complaint, said_nothing
from .user_guards import dead_loop, ends, is_settled, is_transferred, mend

_SPEAK_FIRST = "(The line is open, and nobody has spoken yet.)"
_NOT_ENDED = f"goes on, although all that you want is settled; take leave and end it with {STOP}"


class LLMUser:
    """A model as the customer."""

    def __init__(
        self,
        model: Model,
        *,
        temperature: float | None = 0.0,
        max_tokens: int = 2048,
        deadline: float = 600.0,
        guards: bool = True,
        name: str | None = None,
    ) -> None:
        """Choose how the model is asked.

        Args:
            model: The model; whoever made it closes it, or `close` does.
            temperature: 0 as in tau2-bench; the provider's own for None.
            max_tokens: Of one message, reasoning included.
            deadline: Seconds for one message, waiting and further attempts included.
            guards: False lets every message pass as it is, as tau2-bench does.
            name: How results name the user; "llm:" and the model's name for None.
        """
        self.model = model
        self.name = name or f"llm:{model.name}"
        self.settings: dict[str, Any] = {
            "model": model.name,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "guards": guards,
        }
        """What decides the results, besides the seeds, which are those of the episodes."""
        self._deadline = deadline

    async def reply(self, view: UserView, /) -> Message:
        """The customer's next message; `problem` says what is wrong with it, where the model would not put it right.

        Raises:
            ModelError: There is no answer, or the conversation is too long for the model.
        """
        if self.settings["guards"] and (words := dead_loop(view)) is not None:
            return _message(words, Usage(), problem=said_nothing(view), repairs=1)
        messages = _conversation(view)
        completion = await self._ask(messages, view.seed)
        if not self.settings["guards"]:
            return _message(completion.text, completion.usage)
        text, usage = mend(view, completion.text), completion.usage
        repairs = int(text != completion.text.strip())
        if (wrong := self._wrong(view, text)) is not None:
            note = fill("user_repair", reason=f"it {wrong}")
            again = [*messages, Message(role="assistant", content=completion.text), Message(role="user", content=note)]
            completion = await self._ask(again, view.seed)
            text, usage, repairs = mend(view, completion.text), usage + completion.usage, repairs + 1
        if not ends(text) and is_transferred(view):
            text, repairs = f"{text} {TRANSFER}", repairs + 1
        elif not ends(text) and "?" not in text and is_settled(view):
            text, repairs = f"{text} {STOP}", repairs + 1
        return _message(text, usage, problem=complaint(view, text), repairs=repairs)

    async def close(self) -> None:
        """Close the model's connections; the next message opens them again."""
        await self.model.close()

    def _wrong(self, view: UserView, text: str) -> str | None:
        """What the model has to put right."""
        if (wrong := complaint(view, text)) is not None:
            return wrong
        return _NOT_ENDED if not ends(text) and not is_transferred(view) and is_settled(view) else None

    async def _ask(self, messages: Sequence[Message], seed: int) -> Completion:
        completion = await self.model.complete(
            messages,
            temperature=self.settings["temperature"],
            seed=seed,
            max_tokens=self.settings["max_tokens"],
            deadline=self._deadline,
        )
        if not completion.text.strip() or completion.text.lstrip().startswith("<think>"):
            said = (
                "the answer is nothing but reasoning or tool calls; a model that plays the user needs a larger max_tokens, or none of them"
            )
            raise ModelError(f"model {self.model.name}: {said}", kind="malformed")
        if len(completion.text) > MAX_ACTION_CHARACTERS:
            said = f"a customer's message has {len(completion.text):,} characters; at most {MAX_ACTION_CHARACTERS:,} are heard"
            raise ModelError(f"model {self.model.name}: {said}", kind="malformed")
        return completion


def _message(text: str, usage: Usage, *, problem: str | None = None, repairs: int = 0) -> ModelMessage:
    return ModelMessage(role="user", content=text.strip(), problem=problem and f"the user {problem}", usage=usage, repairs=repairs)


def _conversation(view: UserView) -> list[Message]:
    """What the model is shown: its part, and the words exchanged with the roles turned round."""
    rows = [Message(role="system", content=fill("user_simulator", scenario=scenario_text(view.scenario, view.domain)))]
    if not view.messages or view.messages[0].role != "assistant":
        rows.append(Message(role="user", content=_SPEAK_FIRST))
    for message in view.messages:
        rows.append(Message(role="user" if message.role == "assistant" else "assistant", content=message.content))
    return rows


def scenario_text(scenario: Scenario, domain: Domain) -> str:
    """A scenario in tau2-bench's layout, with structured wishes as the reason for the call. It never holds what the user cannot know:
    the calls that fulfil wishes, what has to be answered, which wishes are to be refused."""
    rows = ["Persona:", f"\t{scenario.persona}"] if scenario.persona else []
    rows += ["Instructions:", f"\tDomain: {domain.name}", "\tReason for call:"]
    if scenario.wishes:
        together = (
            "all in your first message" if scenario.reveal == "together" else "one after the other, each when the one before is settled"
        )
        if len(scenario.wishes) > 1:
            rows.append(f"\t\tYou want {len(scenario.wishes)} things. Say them {together}.")
        for at, wish in enumerate(scenario.wishes, 1):
            rows.append(f"\t\t{at}. {wish.text}")
            rows += [f"\t\t\t{fact.slot.replace('_', ' ')}: {fact.text}" for fact in wish.facts]
            if wish.slip is not None:
                rows.append(
                    f"\t\t\tYou mix this up at first and say: {wish.slip} Correct it when the agent repeats it or asks you to confirm."
                )
    else:
        rows += _lines(scenario.goal)
    facts = (f"{fact.slot.replace('_', ' ')}: {fact.text}" for fact in scenario.facts)
    known = dict.fromkeys((*(f"{name}: {value}" for name, value in scenario.known.items()), *facts))
    for title, texts in (("Known info", list(known)), ("Unknown info", [scenario.unknown]), ("Task instructions", [scenario.instructions])):
        if given := [line for text in texts if text for line in _lines(text)]:
            rows += [f"\t{title}:", *given]
    return "\n".join(rows)


def _lines(text: str) -> Iterable[str]:
    return (f"\t\t{line}" for line in text.splitlines())
