"""A tiny untrained model of the library domain, and users that need no understanding."""

from dataclasses import dataclass

from sentinel_env import Domain, Episode, Message, drive, load_domain
from sentinel_env.agents import ScriptedAgent

GOODBYE = "Thanks. ###STOP###"


@dataclass(frozen=True)
class Brief:
    """A user that says its goal, then one more thing, then goodbye."""

    name: str = "brief"

    def reply(self, view) -> Message:
        spoken = sum(message.role == "user" for message in view.messages)
        return Message(role="user", content=(view.scenario.goal, "My card is M7.", GOODBYE)[min(spoken, 2)])


def library() -> Domain:
    return load_domain("library")


def make_tiny(folder) -> str:
    """An untrained model with its tokenizer, saved."""
    from sentinel_train.solver import SolverConfig, make_model, transcript
    from sentinel_train.tokenizer import make_tokenizer, words_of

    domain = library()
    task = domain.split()[0]
    text = transcript(drive(Episode(domain, task), ScriptedAgent(), Brief()))
    tokenizer = make_tokenizer([text], words_of(domain), least=1)
    model = make_model(tokenizer, SolverConfig(hidden=32, inner=32, layers=2, heads=2, positions=512))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
