"""Turns: a language model takes one turn in each of many live dialogues at once, reusing what it has computed before.

The batch keeps one key-value cache. A row that has nothing where others have a token holds a hole there (attention mask 0, positions
counted without it), so nothing is ever computed twice: neither the prompt at the second turn, nor the dialogues that ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .config import SamplingConfig


@dataclass(frozen=True)
class Turn:
    """What a model wrote in one turn."""

    ids: list[int]
    """With the end-of-turn token last, unless the turn was cut."""
    logprobs: list[float]
    """The log-probability of each id under the sampling distribution."""


class Turns:
    """A batch of dialogues with one model."""

    def __init__(self, model: Any, config: SamplingConfig, *, end_id: int, pad_id: int, generator: Any) -> None:
        """Begin without dialogues.

        Args:
            model: A transformers causal language model; its mode (train, eval) is the caller's affair.
            config: Temperature and the limit of one turn.
            end_id: The end-of-turn token.
            pad_id: What fills holes.
            generator: The torch generator to draw from, on the model's device.
        """
        from .cache import DialogueCache

        self.model = model
        self.config = config
        self.end_id = end_id
        self.pad_id = pad_id
        self.generator = generator
        self._cache: Any = DialogueCache()
        self._mask: Any = None  # (row, column): 1 where the cache holds a token of that row
        self._rows: list[int] = []
        self._unseen: dict[int, list[int]] = {}  # the last sampled token, which the cache does not hold yet

    def take(self, appended: dict[int, list[int]]) -> dict[int, Turn]:
        """Append ids to dialogues and sample the model's next turn in each.

        Args:
            appended: Dialogue -> the ids that come before the turn. The first call names all dialogues; a later one names those
                that go on, and the others are dropped.
        """
        import torch

        rows = list(appended)
        with torch.no_grad():
            self._keep(rows)
            logits = self._feed([self._unseen.pop(row, []) + appended[row] for row in rows])
            sampled: list[list[int]] = [[] for _ in rows]
            logprobs: list[list[float]] = [[] for _ in rows]
            live = [True] * len(rows)
            for _ in range(self.config.max_turn_tokens):
                tokens, chances = self._sample(logits)
                for at in (at for at, going in enumerate(live) if going):
                    sampled[at].append(tokens[at])
                    logprobs[at].append(chances[at])
                    live[at] = tokens[at] != self.end_id
                if not any(live) or max(map(len, sampled)) == self.config.max_turn_tokens:
                    break
                logits = self._feed([[ids[-1]] if going else [] for ids, going in zip(sampled, live, strict=True)])
        self._unseen = {row: ids[-1:] for row, ids in zip(rows, sampled, strict=True)}
        return {row: Turn(ids, chances) for row, ids, chances in zip(rows, sampled, logprobs, strict=True)}

    def _keep(self, rows: list[int]) -> None:
        """Drop the dialogues that ended, and the holes that the others have in common or can do without."""
        import torch

        device = self.model.device
        if self._mask is None:
            self._mask = torch.zeros((len(rows), 0), dtype=torch.long, device=device)
        else:
            kept = torch.tensor([self._rows.index(row) for row in rows], device=device)
            mask = self._mask[kept]
            longest = int(mask.sum(1).max())
            columns = mask.argsort(dim=1, descending=True, stable=True)[:, :longest]  # the tokens in their order, then holes
            self._cache.pick(kept, columns)
            self._mask = mask.gather(1, columns)
        self._rows = rows

    def _feed(self, rows: Sequence[list[int]]) -> Any:
        """Run new ids through the model and return the logits after each row's last one. (row, vocabulary)"""
        import torch

        width = max(map(len, rows))
        padded = [[self.pad_id] * (width - len(row)) + row for row in rows]
        new = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        device = self.model.device
        self._mask = torch.cat([self._mask, torch.tensor(new, device=device)], dim=1)  # (row, column)
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
        output = self.model(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _sample(self, logits: Any) -> tuple[list[int], list[float]]:
        import torch

        if self.config.temperature == 0:
            chances = logits.log_softmax(-1)
            tokens = chances.argmax(-1)
        else:
            chances = (logits / self.config.temperature).log_softmax(-1)
            tokens = torch.multinomial(chances.exp(), 1, generator=self.generator)[:, 0]
        return tokens.tolist(), chances.gather(1, tokens[:, None])[:, 0].tolist()
