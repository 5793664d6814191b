"""The space of text that actions and observations are in: any Unicode.

Gymnasium's `Text` holds a fixed list of characters, so an accent or an emoji in a customer's name falls outside it; a list of all of
Unicode takes seconds to build and 46 MB to pickle. `Unicode` says what text is instead of listing it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space

from .errors import ConfigError

_SAMPLED = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ 0123456789 .,:;!?#$%-_/\\\"'{}[]<>()\n\té ü ß ñ ø Ж 中 文 の ن ₹ € 🙂 👍🏽"


class Unicode(Space[str]):
    """All text that can be encoded as UTF-8, of at most `max_length` characters where that is given.

    >>> space = Unicode(5)
    >>> "né 🙂" in space, "too long" in space, "\\ud800" in space, b"x" in space
    (True, False, False, False)
    """

    def __init__(self, max_length: int | None = None, *, seed: int | np.random.Generator | None = None) -> None:
        """Describe the space.

        Args:
            max_length: How many characters a text has at most; None for any number.
            seed: For `sample`.

        Raises:
            ConfigError: The length is negative.
        """
        if max_length is not None and max_length < 0:
            raise ConfigError(f"a text has at least 0 characters, found max_length={max_length}")
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed shape."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """A short text of letters, digits, punctuation, accents, other scripts and emoji.

        Raises:
            ConfigError: A mask or a probability is given; this space takes neither.
        """
        if mask is not None or probability is not None:
            raise ConfigError("Unicode.sample takes neither mask nor probability; choose the text yourself")
        longest = 32 if self.max_length is None else min(32, self.max_length)
        length = int(self.np_random.integers(longest + 1))
        return "".join(_SAMPLED[at] for at in self.np_random.integers(len(_SAMPLED), size=length))

    def contains(self, x: Any) -> bool:
        """Whether it is text without lone surrogates, and not too long."""
        if not isinstance(x, str) or (self.max_length is not None and len(x) > self.max_length):
            return False
        try:
            x.encode()
        except UnicodeEncodeError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unicode) and self.max_length == other.max_length

    __hash__ = None  # type: ignore[assignment]  # as Gymnasium's spaces: a space holds a random generator

    def __repr__(self) -> str:
        return f"Unicode({'' if self.max_length is None else self.max_length})"
