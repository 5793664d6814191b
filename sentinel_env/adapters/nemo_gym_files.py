"""The files from which NeMo Gym starts a domain's servers, and the rows that it collects rollouts of. Needs no NeMo Gym to be written.

    python -m sentinel_env.adapters.nemo_gym_files retail --split train --out gym

    gym/resources_servers/sentinel/        app.py, requirements.txt, configs/retail.yaml, data/retail_train.jsonl
    gym/responses_api_agents/sentinel_agent/        app.py, requirements.txt

A row holds the system prompt, the tools and the id of its task; the task itself, with its reference, stays with the server.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel_env.domain import Domain, list_domains
from sentinel_env.errors import ConfigError, SentinelError
from sentinel_env.llm_agent import instructions

from .source import Source

SERVER, AGENT = "sentinel", "sentinel_agent"
"""The folders, by which NeMo Gym calls the kinds of servers."""
_APP = """from sentinel_env.adapters.nemo_gym import {name}

if __name__ == "__main__":
    {name}.run_webserver()
"""


def nemo_gym_rows(source: Source, *, agent: str, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each task.

    Args:
        source: The episodes.
        agent: The agent server that plays them.
        seed: Of every episode.
    """
    opening = [{"role": "system", "content": instructions(source.domain)}]
    opening += [{"role": each.role, "content": each.content} for each in source.greeting]
    shown = {"input": opening, "tools": tools_of(source.domain), "parallel_tool_calls": True}
    to = {"type": "responses_api_agents", "name": agent}
    return [{"responses_create_params": shown, "task_id": task.id, "seed": seed, "agent_ref": to} for task in source.tasks]


def tools_of(domain: Domain) -> list[dict[str, Any]]:
    """A domain's tools as the Responses API has them."""
    return [{"type": "function", **schema["function"], "strict": False} for schema in domain.schemas]


def write_files(
    out: str | Path,
    domain: str = "retail",
    *,
    split: str | None = None,
    tasks: str | Path | None = None,
    user: str | Mapping[str, Any] = "scripted",
    data: str | Path | None = None,
    max_steps: int = 30,
    max_errors: int = 10,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    requirement: str = "sentinel-env",
) -> tuple[Path, Path]:
    """Write everything into a folder, in which NeMo Gym's commands are then given; several domains can share one.

    Args:
        out: The folder.
        domain: As in `Source.open`, by what the server's environment can load: a name, `module:attribute` or a path.
        split: Of the tasks; all of them for None.
        tasks: A file of tasks to play instead of the domain's own; it is copied.
        user: As in `Source.open`, in plain settings.
        data: As in `Source.open`.
        max_steps: As in `Source.open`; the agent's too.
        max_errors: As in `Source.open`.
        options: As in `Source.open`.
        seed: Of every episode.
        requirement: How the servers' environments get this package: a requirement for pip, such as the path of a wheel.

    Returns:
        The configuration and the rows.

    Raises:
        ConfigError: A setting that the configuration cannot hold; and what `Source.open` raises.
    """
    given: dict[str, Any] = {"domain": _found_anywhere(domain), "split": split, "user": user, "data": _absolute(data), "options": options}
    settings = {name: value for name, value in given.items() if value is not None} | {"max_steps": max_steps, "max_errors": max_errors}
    try:
        json.dumps(settings)
    except (TypeError, ValueError):
        raise ConfigError(f"the settings stand in a YAML file, so they are plain; found {settings!r:.300}") from None
    source = Source.open(**settings, tasks=tasks)
    name = source.domain.name
    server, agent = Path(out, "resources_servers", SERVER), Path(out, "responses_api_agents", AGENT)
    for folder, main in ((server, "SentinelServer"), (agent, "SentinelAgent")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "app.py").write_text(_APP.format(name=main), encoding="utf-8")
        (folder / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
    config, rows = server / "configs" / f"{name}.yaml", server / "data" / f"{name}_{split or 'all'}.jsonl"
    for path in (config, rows):
        path.parent.mkdir(exist_ok=True)
    if tasks is not None:
        kept = rows.with_name(f"{name}_tasks.jsonl")
        if not kept.exists() or not kept.samefile(tasks):
            shutil.copyfile(tasks, kept)
        settings["tasks"] = str(kept.absolute())
    instances = {"server": f"sentinel_{name}", "agent": f"sentinel_{name}_agent"}
    config.write_text(_yaml(instances, settings, rows.relative_to(out)), encoding="utf-8")
    with rows.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in nemo_gym_rows(source, agent=instances["agent"], seed=seed))
    return config, rows


def _yaml(instances: Mapping[str, str], settings: Mapping[str, Any], rows: Path) -> str:
    """NeMo Gym's configuration; JSON is YAML."""
    return f"""{instances["server"]}:
  resources_servers:
    {SERVER}:
      entrypoint: app.py
      domain: agent
      verified: false
      description: A simulated customer, a domain's tools and its policy; graded by the state of the database.
      value: Improve multi-turn tool use under a policy
      episodes: {json.dumps(settings)}
{instances["agent"]}:
  responses_api_agents:
    {AGENT}:
      entrypoint: app.py
      resources_server:
        type: resources_servers
        name: {instances["server"]}
      model_server:
        type: responses_api_models
        name: policy_model
      max_steps: {settings["max_steps"]}
      datasets:
      - name: {rows.stem}
        type: example
        jsonl_fpath: {rows.as_posix()}
"""


def _found_anywhere(domain: str | Path) -> str:
    """A domain as servers find it, which run in folders of their own: a path is made absolute."""
    text = str(domain)
    path, colon, attribute = text.rpartition(":") if ":" in text else (text, "", "")
    is_path = path.endswith(".py") or Path(path).exists()
    return f"{Path(path).absolute()}{colon}{attribute}" if is_path and text not in list_domains() else text


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def main(
    domain: Annotated[str, typer.Argument(help="A domain's name, module:attribute, or path.")] = "retail",
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("gym"),
    split: Annotated[str | None, typer.Option(help="Of the tasks; all of them without.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="A file of tasks to play instead of the domain's own.")] = None,
    user: Annotated[str, typer.Option(help='The customer: scripted, module:attribute, or JSON such as {"model": NAME}.')] = "scripted",
    data: Annotated[Path | None, typer.Option(help="A folder in tau2-bench's format.")] = None,
    max_steps: Annotated[int, typer.Option(help="Assistant turns of an episode.")] = 30,
    seed: Annotated[int, typer.Option(help="Of every episode.")] = 0,
    requirement: Annotated[str, typer.Option(help="How the servers get this package: for pip.")] = "sentinel-env",
) -> None:
    """Write the servers' folders, their configuration and the rows."""
    try:
        chosen: Any = json.loads(user) if user.lstrip().startswith("{") else user
        config, rows = write_files(
            out, domain, split=split, tasks=tasks, user=chosen, data=data, max_steps=max_steps, seed=seed, requirement=requirement
        )
    except (SentinelError, json.JSONDecodeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{config}\n{rows}")


if __name__ == "__main__":
    typer.run(main)
