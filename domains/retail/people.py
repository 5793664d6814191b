"""Invented customers of the generated databases: names, e-mail addresses and postal addresses."""

from __future__ import annotations

from random import Random

from .db import Address

_FIRST = """
Ada Amir Anika Arjun Astrid Ben Bianca Callum Carmen Chidi Clara Dalia Daniel Dmitri Elena Elias Emeka Esther Farah Felix
Freya Gita Grace Hana Hugo Ines Isaac Ivy Jonas Jun Kai Kamala Keisha Lars Leila Lena Luca Maeve Malik Marta Mateo Mina Nadia
Nikolai Nora Omar Owen Paloma Priya Quinn Rafael Rosa Ruben Sanjay Selma Simon Tariq Tessa Theo Uma Victor Wanda Wei Yusuf
Zoe
"""
_LAST = """
Abbott Adeyemi Andersen Baptiste Becker Bergman Bose Calder Castillo Chandra Cohen Dalton Delgado Dubois Eriksen Farouk
Fischer Flores Gallagher Gupta Haddad Hansen Hayashi Holt Ibrahim Ivanov Jansen Jimenez Kaur Keller Kimura Kowalski Larsen
Lindqvist Lombardi Mbeki Mendes Mishra Moreau Murray Nakamura Navarro Novak Nwosu Obrien Okafor Olsen Ortega Palmer Pereira
Petrov Quintero Rahman Rossi Sato Schmidt Serrano Shah Silva Stein Tanaka Thorne Toledo Varga Vasquez Weber Whitaker Yilmaz
Zhou Zimmer
"""
_STREET = """
Alder Beacon Bramble Canal Chapel Clover Copper Dover Falcon Fern Garnet Granary Heron Hollow Juniper Kestrel Larch Lark
Mason Mercer Mill Orchard Osprey Pebble Poplar Quarry Raven Saffron Sorrel Spruce Tanner Thistle Violet Walnut Weaver Wren
"""
FIRST_NAMES, LAST_NAMES, _STREETS = tuple(_FIRST.split()), tuple(_LAST.split()), tuple(_STREET.split())
_ROADS = ("Street", "Avenue", "Lane", "Road", "Court")
_CITIES = (
    *(("Albany", "NY", "122"), ("Atlanta", "GA", "303"), ("Austin", "TX", "787"), ("Boise", "ID", "837"), ("Boston", "MA", "021")),
    *(("Charlotte", "NC", "282"), ("Chicago", "IL", "606"), ("Columbus", "OH", "432"), ("Denver", "CO", "802"), ("Detroit", "MI", "482")),
    *(("Houston", "TX", "770"), ("Madison", "WI", "537"), ("Miami", "FL", "331"), ("Minneapolis", "MN", "554"), ("Nashville", "TN", "372")),
    *(("Omaha", "NE", "681"), ("Phoenix", "AZ", "850"), ("Portland", "OR", "972"), ("Richmond", "VA", "232"), ("Seattle", "WA", "981")),
    *(("Tucson", "AZ", "857"), ("Tulsa", "OK", "741")),
)
PEOPLE = len(FIRST_NAMES) * len(LAST_NAMES) * len(_CITIES) * 100
"""How many customers can differ in name or zip code."""


def invent_address(rng: Random) -> Address:
    """A postal address in the USA; four in ten have no second line."""
    city, state, zip3 = rng.choice(_CITIES)
    second = rng.choice(("Apt", "Suite", "Unit")) + f" {rng.randint(1, 999)}" if rng.random() < 0.6 else ""
    return Address(
        address1=f"{rng.randint(1, 999)} {rng.choice(_STREETS)} {rng.choice(_ROADS)}",
        address2=second,
        city=city,
        country="USA",
        state=state,
        zip=f"{zip3}{rng.randint(0, 99):02d}",
    )


def invent_email(rng: Random, first_name: str, last_name: str, taken: set[str]) -> str:
    """An e-mail address that is not taken, and takes it."""
    while True:
        number = rng.randint(10, 99 + 10 * len(taken))
        email = f"{first_name}.{last_name}{number}@example.{rng.choice(('com', 'org', 'net'))}".lower()
        if email not in taken:
            taken.add(email)
            return email
