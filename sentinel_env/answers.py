"""Answers: whether a scripted customer has been told what it only wanted to know.

It cannot tell a right answer from a wrong one, and takes any that could be one; but whoever says what is asked, at whatever point of the
conversation, is not asked again.
"""

from __future__ import annotations

import re

from .tasks import Wish
from .understanding import Understood

_NUMBER = re.compile(r"(?<![\w#.,])[$€£]?(\d[\d,]*(?:\.\d+)?)(?![\w#]|\.\d)")
_AMOUNT = re.compile(r"[$€£] ?\d|\d\.\d\d\b|\d (?:dollars|euros|pounds)\b")
_COUNT = re.compile(r"(?<![\w#.,])\d{1,3}(?![\w#]|[.,]\d)")


def is_told(heard: Understood, wish: Wish) -> bool:
    """Whether a message says all that the customer asks."""
    numbers = {float(number.replace(",", "")) for number in _NUMBER.findall(heard.text)}
    return bool(wish.answers) and all(_is_said(answer, heard.text, numbers) for answer in wish.answers)


def _is_said(answer: str, text: str, numbers: set[float]) -> bool:
    found = _NUMBER.fullmatch(answer)
    return float(found[1].replace(",", "")) in numbers if found else answer.lower() in text


def could_answer(heard: Understood, wish: Wish) -> bool:
    """Whether a message says anything of the sort that is asked: an amount of money, a count, or whatever informs."""
    if all(_NUMBER.fullmatch(answer) for answer in wish.answers):
        sort = _AMOUNT if any("." in answer for answer in wish.answers) else _COUNT
        return any(sort.search(segment.text) for segment in heard.segments if not segment.asks)
    return bool(heard.tells)
