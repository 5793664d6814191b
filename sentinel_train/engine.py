"""vLLM for a model that is not being trained: the diagnosis, the pilot and the held-out tasks of a run whose training uses it too."""

from __future__ import annotations

from typing import Any

from .config import TrainConfig
from .grpo_settings import grpo_config
from .served import require_vllm


def open_engine(config: TrainConfig, model: Any, tokenizer: Any) -> Any:
    """TRL's own way to vLLM, with the settings that training has; `ServedTurns` takes turns with it.

    Args:
        config: The run, with `trl.use_vllm`.
        model: The model, wherever its weights are: the engine reads its own from the same place.
        tokenizer: Its tokenizer.

    Raises:
        ConfigError: vLLM is not installed.
    """
    require_vllm()
    from accelerate import Accelerator
    from trl.generation.vllm_generation import VLLMGeneration

    args = grpo_config(config, "engine")
    served = VLLMGeneration(
        model=model,
        accelerator=Accelerator(),
        processing_class=tokenizer,
        mode=args.vllm_mode,
        server_base_url=args.vllm_server_base_url,
        server_host=args.vllm_server_host,
        server_port=args.vllm_server_port,
        server_timeout=args.vllm_server_timeout,
        group_port=args.vllm_group_port,
        tensor_parallel_size=args.vllm_tensor_parallel_size,
        gpu_memory_utilization=args.vllm_gpu_memory_utilization,
        max_model_length=config.sampling.max_episode_tokens,
        max_num_seqs=config.sampling.batch_size,
        model_impl=args.vllm_model_impl,
        trust_remote_code=args.trust_remote_code,
        temperature=config.sampling.temperature,
        max_completion_length=config.sampling.max_turn_tokens,
        logprobs=0,
        generation_kwargs={"max_tokens": config.sampling.max_turn_tokens},
    )
    if args.vllm_mode == "server":
        served.sync_weights()  # the server holds whatever was trained last
    return served
