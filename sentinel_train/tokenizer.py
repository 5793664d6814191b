"""The tiny Solver's tokenizer: words of the domain's data, digits in threes, and whole phrases of everything between them.

A dialogue of a domain repeats the same phrases (a tool call's JSON, "Is there anything else"), between which stand the words and
numbers of the database. Each phrase is one token, so a turn costs a small model a handful of steps, and names, options and ids stay
tokens of their own that it can learn to copy. Bytes stand in for all that was never seen, so any text can be written and read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

from sentinel_env import Domain

PAD, END = "<|endoftext|>", "<|im_end|>"


def words_of(domain: Domain) -> list[str]:
    """Every word of two letters or more in the values of a domain's database that its tools' names and arguments do not use, sorted."""
    found: set[str] = set()
    for text in _texts(domain.base.dump()):
        found.update(word for part in re.findall(r"[A-Za-z]+", text) for word in (part, part.lower()) if len(word) > 1)
    arguments = {name for tool in domain.tools for name in tool.arguments.model_fields}
    for text in (*domain.tools_by_name, *arguments):
        found.difference_update(text.split("_"))
    return sorted(found)


def make_tokenizer(texts: Iterable[str], words: Iterable[str], *, fixed: Iterable[str] = (), least: int = 4) -> Any:
    """Make a tokenizer; nothing in it is trained, so the same texts give the same one.

    Args:
        texts: Rendered dialogues.
        words: Words that no phrase may swallow; the same token wherever they stand, so that copying one is copying a token.
        fixed: Pieces that are tokens whatever stands around them, such as "credit_card_".
        least: How often a phrase must occur to become a token.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fixed = sorted(fixed, key=lambda piece: (-len(piece), piece))
    one = "|".join(sorted(words, key=lambda word: (-len(word), word)))
    constant = "".join(f"{re.escape(piece)}|" for piece in fixed)
    pieces = Regex(rf"\n?<\|im_start\|>assistant\n|{constant}(?<![A-Za-z])(?:{one})(?![A-Za-z])|\.\d\d?(?!\d)|\d\d\d|\d\d|\d")
    cut = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(END, "removed"), pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    seen = Counter(piece for text in texts for piece, _ in cut.pre_tokenize_str(text))
    always = [
        *fixed,
        *(f"{number:02d}" for number in range(100)),
        *(f"{number:03d}" for number in range(1000)),
        *(f".{number:02d}" for number in range(100)),
        *(f".{n}" for n in range(10)),
    ]
    phrases = sorted(piece for piece, count in seen.items() if count >= least and len(piece) > 1)
    spellings = {
        part for phrase in phrases for part in re.findall(r"Ġ?[A-Za-z]+|[^A-Za-z]", phrase)
    }  # what a new phrase is put together from
    tokens = dict.fromkeys([PAD, END, *sorted(pre_tokenizers.ByteLevel.alphabet())], -10.0)
    tokens |= dict.fromkeys([*always, *phrases, *sorted(spellings - tokens.keys())], -1.0)
    tokenizer = Tokenizer(models.Unigram([(token, score) for token, score in tokens.items()], unk_id=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template=chat_template(),
        clean_up_tokenization_spaces=False,
    )


def chat_template() -> str:
    """The compact ChatML template: Qwen's format without the policy and the tools, which the tiny Solver knows by heart."""
    return resources.files("sentinel_train").joinpath("chat_template.jinja").read_text(encoding="utf-8")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
