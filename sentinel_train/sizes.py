"""How large a model is and what memory its training takes, from its configuration alone: no weight is loaded.

The model is built without storage, so its parameters are counted, not estimated. Memory is a sum of what must be held at once; what
libraries and the allocator add is not in it, and activations are a rule of thumb (see `ACTIVATIONS`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sentinel_env import ConfigError

from .config import TrainConfig
from .models import resolve

KNOWN: dict[str, dict[str, Any]] = {
    "qwen3-4b-thinking-2507": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": True,
    },
    "smollm2": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
"""Shapes of the recipes' models, for where their config.json is not at hand; by the last part of the name."""
BYTES = {"fp32": 4, "bf16": 2}
ACTIVATIONS = 16
"""What one layer keeps of a token for the backward pass, in units of its hidden size; one unit with activation checkpointing."""
LOGITS = 3
"""How many fp32 copies of an update's logits there are at once: themselves, their softmax, their gradient."""


class Size(BaseModel):
    """A model's size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int
    adapters: int
    """Parameters of the adapters that the run configures; 0 without."""
    layers: int
    hidden: int
    vocabulary: int
    cached: int
    """Numbers that the key-value cache holds for one token."""
    positions: int | None
    """How many tokens the model can read."""


class Memory(BaseModel):
    """What training holds on one device, in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The precision of the weights, and what of them is trained."""
    chosen: bool
    """Whether it is what the run is configured for."""
    weights: int
    gradients: int
    optimizer: int
    """Adam's two moments."""
    reference: int
    """The starting model, for the KL divergence; under LoRA it is the model without its adapters."""
    activations: int
    """Of one pass forward and backward, logits included."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.reference + self.activations


def shape_of(name: str) -> Any:
    """A model's configuration, from its folder, from what was downloaded before, or of a known model.

    Raises:
        ConfigError: There is none at hand.
    """
    from transformers import AutoConfig

    source = resolve(name)
    try:
        return AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        known = KNOWN.get(Path(source).name.lower())
    if known is None:
        raise ConfigError(f"the config.json of model {name!r} is not at hand; name a folder that has one, or download the model first")
    return AutoConfig.for_model(**known)


def measure(config: TrainConfig) -> Size:
    """Count a run's parameters.

    Raises:
        ConfigError: The model's configuration is not at hand, or its adapters fit no layer.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from .grpo_settings import lora_config

    shape = shape_of(config.model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    parameters = sum(weights.numel() for weights in model.parameters())
    adapters = 0
    if (lora := lora_config(config)) is not None:
        from peft import get_peft_model

        try:
            model = get_peft_model(model, lora)
        except ValueError as error:
            raise ConfigError(f"setting 'lora.targets': {str(error).splitlines()[0]}") from None
        adapters = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    return Size(
        parameters=parameters,
        adapters=adapters,
        layers=shape.num_hidden_layers,
        hidden=shape.hidden_size,
        vocabulary=shape.vocab_size,
        cached=2 * shape.num_hidden_layers * heads * width,
        positions=getattr(shape, "max_position_embeddings", None),
    )


def memory(size: Size, config: TrainConfig, *, rows: int, checkpointing: bool) -> tuple[Memory, ...]:
    """What training takes with weights in either precision and, where adapters are configured, with those.

    Args:
        size: The model's.
        config: The run's.
        rows: Rollouts in a pass.
        checkpointing: Whether activations are computed again in the backward pass.
    """
    tokens = rows * config.sampling.max_episode_tokens
    kept = size.layers + ACTIVATIONS if checkpointing else size.layers * ACTIVATIONS  # with it one layer at a time has all of its own
    activations = tokens * size.hidden * kept * BYTES[config.precision] + LOGITS * tokens * size.vocabulary * 4
    ways = [(precision, False) for precision in BYTES] + [("bf16", True)] * bool(size.adapters)
    if (config.weights, bool(size.adapters)) not in ways:
        ways.append((config.weights, True))
    return tuple(_way(size, config, precision, lora, activations) for precision, lora in ways)


def _way(size: Size, config: TrainConfig, precision: str, lora: bool, activations: int) -> Memory:
    trained = size.adapters * 4 if lora else size.parameters * BYTES[precision]  # peft holds adapters in fp32
    return Memory(
        name=f"{precision}, adapters" if lora else f"{precision}, all trained",
        chosen=(precision, lora) == (config.weights, config.lora is not None),
        weights=size.parameters * BYTES[precision] + trained * lora,
        gradients=trained,
        optimizer=2 * trained,
        reference=size.parameters * BYTES[precision] * (config.beta > 0 and not lora),
        activations=activations,
    )
