"""Who a customer is, by the customer's own words: an e-mail address, or a name and a zip code, as the policy has it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .db import RetailDB, User

_EMAIL = re.compile(r"[^\s,;<>]+@[^\s,;<>]+\.\w+")


def find_customers(db: RetailDB, told: Mapping[str, str]) -> list[User]:
    """Everybody who can say all of this of themselves.

    Args:
        db: The shop.
        told: Slot -> words: "email", or "name" and "zip". Nobody is found by less.
    """
    users = db.users
    if "email" in told:
        found = users.find("email", read_email(told["email"]).lower())
    elif "name" in told and "zip" in told:
        place = _read_zip(told["zip"])
        found = tuple(
            each for first, last in _splits(told["name"]) for each in users.find("name_zip", (first.lower(), last.lower(), place))
        )
    else:
        return []
    everybody = [users[key] for key in dict.fromkeys(found)]
    return [user for user in everybody if is_called(user, told.get("name")) and lives_at(user, told.get("zip"))]


def read_email(text: str) -> str:
    """The e-mail address in a text; all of it where there is none."""
    found = _EMAIL.search(text)
    return found.group() if found else text.strip()


def _read_zip(text: str) -> str:
    found = re.search(r"\b\d{5}\b", text)
    return found.group() if found else text.strip()


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Where the first name can end."""
    parts = name.split()
    return ((" ".join(parts[:at]), " ".join(parts[at:])) for at in range(1, len(parts)))


def is_called(user: User, name: str | None) -> bool:
    """Whether this is the user's name, in any case; anybody's for None."""
    return name is None or f"{user.name.first_name} {user.name.last_name}".lower() == " ".join(name.split()).lower()


def lives_at(user: User, place: str | None) -> bool:
    """Whether this is the zip code of the user's default address; anybody's for None."""
    return place is None or user.address.zip == _read_zip(place)
