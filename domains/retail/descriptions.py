"""Descriptions read as constraints: which articles can "the black desk lamp, size small" be?

The opposite of `wording.py`, and independent of it: every word has to be accounted for by an article's name or by one of its values, with
or without the option's name beside it; what cannot be accounted for fits nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from .db import Order, OrderLine, Product

_SAY_NOTHING = "a an the my this that these one ones item with in of and is it its"
FILLERS = frozenset(_SAY_NOTHING.split())
"""Words that say nothing about an article. They may be part of a value all the same, as in "set of 4"."""

MOST_WORDS = 24

Phrases = Mapping[str, Sequence[tuple[tuple[str, ...], str, str]]]
"""First word -> (words, option, value) for each way of saying that an option has a value."""


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation around them.

    >>> words("The black, 5 m desk lamp.")
    ('the', 'black', '5', 'm', 'desk', 'lamp')
    """
    return tuple(word for each in text.lower().split() if (word := each.strip("\"'`.,;:!?()")))


_words_of_name = lru_cache(maxsize=8192)(words)  # names recur, what is said does not


@lru_cache(maxsize=8192)
def _ways(option: str, value: str) -> tuple[tuple[str, ...], ...]:
    """How a value is said: "small", "size small", "small size"."""
    name, said = words(option), words(value)
    return (said, (*name, *said), (*said, *name)) if said else ()


def phrases(pairs: Iterable[tuple[str, str]]) -> Phrases:
    """The ways of saying some (option, value) pairs."""
    found: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for option, value in pairs:
        for way in _ways(option, value):
            found.setdefault(way[0], []).append((way, option, value))
    return found


def readings(said: Sequence[str], name: Collection[str], known: Phrases) -> Iterator[dict[str, str]]:
    """Every way to account for all words: the values that they give to options. The same may come more than once; too many words have none.

    >>> list(readings(("black", "lamp"), {"desk", "lamp"}, phrases([("color", "black"), ("shade", "black")])))
    [{'color': 'black'}, {'shade': 'black'}]
    """
    return _rest(tuple(said), 0, {}, name, known) if len(said) <= MOST_WORDS else iter(())


def _rest(said: tuple[str, ...], at: int, given: dict[str, str], name: Collection[str], known: Phrases) -> Iterator[dict[str, str]]:
    if at == len(said):
        yield given
        return
    word = said[at]
    if word in name or word in FILLERS:
        yield from _rest(said, at + 1, given, name, known)
    for way, option, value in known.get(word, ()):
        if option not in given and said[at : at + len(way)] == way:
            yield from _rest(said, at + len(way), {**given, option: value}, name, known)


def described(said: Sequence[str], orders: Iterable[Order]) -> list[tuple[Order, OrderLine]]:
    """The lines of some orders that can be described so, each with its order.

    Who says a product's whole name means it, or one that is called so too: "the laptop" is no backpack with a compartment for one.
    """
    found = [(order, line) for order in orders for line in order.items if _fits(said, line)]
    named = [own for _, line in found if (own := set(_words_of_name(line.name))).issubset(said)]
    return [(order, line) for order, line in found if any(own.issubset(_words_of_name(line.name)) for own in named)] if named else found


def _fits(said: Sequence[str], line: OrderLine) -> bool:
    return next(readings(said, _name_in(said, line.name), phrases(line.options.items())), None) is not None


def _name_in(said: Sequence[str], name: str) -> tuple[str, ...]:
    """The words of a name that may be said: it ends with its last word, so that "bath" alone is a size and not a bath towel."""
    own = _words_of_name(name)
    return own if own and own[-1] in said else ()


def changes(said: Sequence[str], product: Product) -> list[dict[str, str]]:
    """The different readings of a description as options that a variant of the product is to have."""
    pairs = dict.fromkeys(pair for variant in product.variants.values() for pair in variant.options.items())
    found = []
    for given in readings(said, _name_in(said, product.name), phrases(pairs)):
        if given and given not in found:
            found.append(given)
    return found


def names_a_product(said: Sequence[str], products: Iterable[Product]) -> bool:
    """Whether the words hold the whole name of one of some products."""
    return any(set(_words_of_name(product.name)) <= set(said) for product in products)
