"""SkyRL's generator, made to drop the trajectories that infrastructure ended.

    class Experiment(BasePPOExp):
        def get_generator(self, cfg, tokenizer, inference_engine_client):
            return DroppingGenerator(cfg.generator, cfg.environment.skyrl_gym, inference_engine_client, tokenizer)

SkyRL wants a number for each trajectory of each prompt, so none can be taken out. What its own generators do where an agent fails (its
Harbor integration) is done here: all trajectories of that prompt get a loss mask of zeros and the stop reason "error", so nothing is
trained on them, and no baseline has them. Before that the episode is played again, from its beginning.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from skyrl.train.generators.skyrl_gym_generator import SkyRLGymGenerator

from sentinel_env.errors import ConfigError, ModelError

from .skyrl import DROPS, LOST


class DroppingGenerator(SkyRLGymGenerator):
    """`SkyRLGymGenerator` for environments whose user may fail."""

    replays = 1
    """How often a lost episode is played again before its prompt is left out."""

    async def agent_loop(self, prompt: Any, env_class: str, env_extras: Mapping[str, Any], *arguments: Any, **named: Any) -> Any:
        """One trajectory, as in SkyRL; one that was lost is generated again."""
        for left in reversed(range(self.replays + 1)):
            output = await super().agent_loop(prompt, env_class, {**env_extras, DROPS: True}, *arguments, **named)
            if not left or not _lost(output) or _lost(output) in ("refused", "budget"):
                return output
        raise AssertionError  # the loop returns

    async def generate(self, input_batch: Any, *arguments: Any, **named: Any) -> Any:
        """The trajectories of a batch, as in SkyRL; those of a prompt of which one was lost have a loss mask of zeros.

        Raises:
            ModelError: All were lost.
            ConfigError: `generator.batched`, or `generator.max_turns` as it is by default, would cut every episode after its first turn.
        """
        if self.max_turns < 2:
            raise ConfigError(
                f"generator.max_turns is {self.max_turns}, so no episode has a second turn; set it to the rows' max_steps (30)"
            )
        if self.batched:
            raise ConfigError("generator.batched takes one turn of each episode, and grades none; set it to false")
        output = await super().generate(input_batch, *arguments, **named)
        metrics = output.get("env_metrics") or []
        ids = output.get("trajectory_ids") or input_batch.get("trajectory_ids")
        prompts: list[Hashable] = [each.instance_id for each in ids] if ids else list(range(len(metrics)))
        dropped = {prompt for prompt, each in zip(prompts, metrics, strict=True) if each.get(LOST)}
        if dropped:
            _drop(output, prompts, dropped)
        return output


def _lost(output: Any) -> str | None:
    """Why a trajectory was lost, where it was."""
    steps = getattr(output, "step_outputs", None)
    metrics = (steps[-1] if steps else output).env_metrics
    return (metrics.get("trouble") or "server") if metrics.get(LOST) else None


def _drop(output: dict[str, Any], prompts: Sequence[Hashable], dropped: set[Hashable]) -> None:
    """Leave prompts out, in place.

    A lost trajectory's reward is none, but SkyRL's averages take every row: it is given the mean of its prompt's graded ones, or of
    the batch's where there are none, which leaves the averages what they are without it.
    """
    metrics, rewards = output["env_metrics"], output["rewards"]
    graded = {at: _total(rewards[at]) for at, each in enumerate(metrics) if "ending" in each}
    if not graded:
        raise ModelError(f"not one of {len(dropped)} prompts has a reward: the users of all trajectories could not answer")
    for at, each in enumerate(metrics):
        if each.get(LOST):
            siblings = [total for other, total in graded.items() if prompts[other] == prompts[at]] or list(graded.values())
            mean = sum(siblings) / len(siblings)
            rewards[at] = [*([0.0] * (len(rewards[at]) - 1)), mean] if isinstance(rewards[at], list) else mean
    for at, prompt in enumerate(prompts):
        if prompt in dropped:
            output["loss_masks"][at] = [0] * len(output["loss_masks"][at])
            output["stop_reasons"][at] = "error"
    counts = {"num_error_trajectories": sum(bool(each.get(LOST)) for each in metrics), "num_masked_instances": len(dropped)}
    output["rollout_metrics"] |= {f"generate/{name}": count for name, count in counts.items()}


def _total(reward: float | Sequence[float]) -> float:
    return sum(reward) if isinstance(reward, list) else float(reward)  # type: ignore[arg-type]
