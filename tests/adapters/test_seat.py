"""A user that is none, by name or by what it answers: said at once, in one line."""

import asyncio
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest

from sentinel_env import ConfigError, Domain, EpisodeError, load_domain
from sentinel_env.adapters.seat import Seat
from sentinel_env.finding import find_user

URL = "http://127.0.0.1:9/v1"


class Wrong:
    """A user that answers with something else than a message."""

    name = "wrong"

    def __init__(self, answer):
        self.answer = answer

    def reply(self, view):
        return self.answer


async def later():
    return "words"


@pytest.mark.parametrize("answer", ["words", None, {"role": "user", "content": "words"}])
def test_an_answer_that_is_no_message_is_named(answer):
    domain: Domain = load_domain("library")
    for begin in (lambda seat: seat.open_now(), lambda seat: asyncio.run(seat.open())):
        with pytest.raises(EpisodeError, match=f"user wrong answered with a {type(answer).__name__}; reply"):
            begin(Seat(domain, domain.split()[0], Wrong(answer)))


def test_so_is_one_that_is_promised():
    domain = load_domain("library")
    with pytest.raises(EpisodeError, match="answered with a str"):
        Seat(domain, domain.split()[0], Wrong(later())).open_now()


@pytest.mark.parametrize("user", ["", ":x", ".x:y", "json", "json:loads", "json:nothing", "nope:a", "broken_users:user"])
def test_a_user_that_cannot_be_imported_is_named(user, monkeypatch):
    broken = ModuleType("broken_users")
    broken.__getattr__ = lambda name: 1 // 0
    monkeypatch.setitem(sys.modules, "broken_users", broken)
    with pytest.raises(ConfigError, match="cannot be imported as module:attribute"):
        find_user(user)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": "hot"}, "temperature .* is a number of at least 0, or None, found 'hot'"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens .* is a whole number of at least 1, found 0"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"deadline": "10"}, "deadline .* is seconds above 0"),
        ({"deadline": 0}, "deadline"),
        ({"guards": "no"}, "guards .* is True or False"),
        ({"base_url": 5}, "base_url .* is an address"),
        ({"model": None}, "described by its name"),
        ({"api_key": "secret"}, "has no setting 'api_key'"),
    ],
)
def test_a_setting_that_is_none_is_refused_before_an_episode_begins(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        find_user({"model": "any", "base_url": URL, **settings})


@pytest.mark.skipif(find_spec("aiohttp") is None, reason="a model behind a URL needs the extra endpoint")
def test_settings_that_are_some_are_taken():
    user = find_user({"model": "any", "base_url": URL, "temperature": None, "max_tokens": 5, "deadline": 1.5, "guards": False})
    assert user.settings["max_tokens"] == 5
