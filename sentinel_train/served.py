"""Turns taken by vLLM: the ids of a dialogue go there whole, the ids and log-probabilities of the next turn come back.

TRL makes the engine or the client, keeps its weights those of the trained model, and knows both modes; what is kept here are the ids of
the dialogues. vLLM's own prefix cache sees to it that a long dialogue is not computed anew at every turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentinel_env import ConfigError

from .generate import Turn


class ServedTurns:
    """A batch of dialogues with the model that vLLM serves; the same `take` as `Turns`."""

    def __init__(self, generation: Any) -> None:
        """Begin without dialogues.

        Args:
            generation: TRL's `VLLMGeneration`, of which `generate` is used.
        """
        self.generation = generation
        self._ids: dict[int, list[int]] = {}

    def take(self, appended: Mapping[int, list[int]]) -> dict[int, Turn]:
        """Append ids to dialogues and let the model take the next turn in each, as `Turns.take` does."""
        for row, ids in appended.items():
            self._ids.setdefault(row, []).extend(ids)
        prompts = [list(self._ids[row]) for row in appended]
        _, sampled, chances, _ = self.generation.generate(prompts=prompts, images=None, num_generations=1)
        turns = {}
        for row, ids, kept in zip(appended, sampled, chances, strict=True):
            turns[row] = Turn(list(ids), [each[0] for each in kept])  # of each token, the first is the one that was sampled
            self._ids[row].extend(ids)
        return turns


def require_vllm() -> None:
    """Refuse to train without vLLM where it is asked for.

    Raises:
        ConfigError: vLLM is not installed.
    """
    from trl.import_utils import is_vllm_available

    if not is_vllm_available():
        raise ConfigError("trl.use_vllm is true and vLLM is not installed; run `pip install 'trl[vllm]'`, or set it to false")


def check_vllm(settings: Mapping[str, Any], processes: int) -> None:
    """Refuse settings of vLLM that cannot work with dialogues of different lengths.

    Args:
        settings: `TrainConfig.trl`.
        processes: How many processes train together.

    Raises:
        ConfigError: Processes would wait for each other at every turn, of which they have different numbers.
    """
    if processes == 1:
        return
    if settings.get("vllm_mode", "colocate") == "server":
        raise ConfigError(
            f"trl.vllm_mode is server with {processes} processes, which would wait for each other at every turn; set it to colocate"
        )
    if settings.get("vllm_tensor_parallel_size", 1) > 1 or settings.get("vllm_enable_sleep_mode"):
        raise ConfigError(
            f"with {processes} processes trl.vllm_tensor_parallel_size is 1 and trl.vllm_enable_sleep_mode false: "
            "their dialogues have different numbers of turns"
        )
