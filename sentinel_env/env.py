"""`ToolEnv`: an episode as a Gymnasium environment. Text in, text out.

    env = gymnasium.make("sentinel_env:sentinel/Retail-v0")
    observation, info = env.reset(seed=0)                        # "user: Hi, I would like to cancel an order."
    observation, reward, terminated, truncated, info = env.step('{"name": "find_user_id_by_email", "arguments": {"email": "ann@x.org"}}')

An action is what `read_text` reads: text to the user, or tool calls as JSON, without the thought before it. An observation holds the
messages that the agent has not seen yet. The simulated user answers within `step`, so there is no thread, no queue and no polling.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from .domain import Domain, load_domain
from .episode import Episode, User, at_once
from .errors import ConfigError, EpisodeError, TaskError
from .evaluation import evaluate
from .finding import find_task, find_user
from .messages import Message
from .prompt_texts import in_text
from .spaces import Unicode
from .tasks import load_tasks
from .thoughts import read_text
from .trajectory import record


class ToolEnv(gymnasium.Env[str, str]):
    """One attempt after another at the tasks of a domain.

    The reward is 0 until the end; then it is 1.0 or 0.0, as `evaluate` has it. `terminated` means that the conversation ended by its
    own rules, `truncated` that a limit cut it. `info` is small and flat: `task_id` and `steps`, and at the end `ending`, `passed` and
    one `passed_...` for each kind of check. Neither the scenario nor the reference is ever in it.

    What an agent needs besides the observations: `env.get_wrapper_attr("policy")`, `"tools"` (OpenAI schemas), `"system_prompt"`
    (both, with how to act in text) and `"messages"` (the dialogue so far, for agents that work on messages).

    >>> env = ToolEnv("library")
    >>> env.reset(seed=0)[0]
    'user: Renew Dune for me.'
    >>> env.step('{"name": "find_loans", "arguments": {"member_id": "M7"}}')[0]
    'tool: {"L1": {"title": "Dune", "member_id": "M7", "status": "on loan"}}'
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        domain: str | Path | Domain = "retail",
        *,
        split: str | None = None,
        task_id: str | None = None,
        tasks: str | Path | None = None,
        user: User | str | None = None,
        max_steps: int = 30,
        data: str | Path | None = None,
        render_mode: str | None = None,
        **domain_options: Any,
    ) -> None:
        """Load a domain.

        Args:
            domain: An installed domain's name, `module:attribute`, a path, or a `Domain`.
            split: Sample tasks from this split; from all of them for None.
            task_id: Play this task only.
            tasks: A file of tasks, such as `sentinel verify` writes, to play instead of the domain's own.
            user: Who answers as the customer: a `User`, or `module:attribute` of one (or of what makes one); the scripted user for None.
            max_steps: How many actions an episode may take before it is truncated.
            data: A folder in tau2-bench's format, where the domain supports it.
            render_mode: "ansi" for `render()` to return the dialogue as text.
            **domain_options: For a domain that is a function, such as retail's `users=5000`.

        Raises:
            UnknownDomainError: No such domain.
            DomainError: The domain is broken or takes no such option.
            TaskError: No such split or task, or a file of tasks that cannot be read.
            ConfigError: No such user or render mode.
        """
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"render_mode is None or 'ansi', found {render_mode!r}")
        self.domain = load_domain(domain, data=data, **domain_options)
        if tasks is not None:
            self.domain = self.domain.with_tasks(load_tasks(tasks))
        self.user = find_user(user)
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.action_space = Unicode()
        self.observation_space = Unicode()
        self._tasks = self.domain.split(split)
        if task_id is not None:
            self._tasks = (find_task(self._tasks, task_id, self.domain),)
        elif not self._tasks:
            raise TaskError(f"domain {self.domain.name} has no tasks to play")
        self._episode: Episode | None = None

    # what the agent may see

    @property
    def policy(self) -> str:
        """The rules that the agent must follow."""
        return self.domain.policy

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools in OpenAI's function format."""
        return copy.deepcopy(self.domain.schemas)

    @property
    def system_prompt(self) -> str:
        """The policy, the tools and how to act, for an agent that works on text."""
        return in_text(self.domain)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The dialogue so far, the agent's fixed greeting first."""
        return tuple(self.episode.messages)

    # what the driver may see

    @property
    def episode(self) -> Episode:
        """The live episode. It holds the task with its reference: for drivers and tests, not for agents.

        Raises:
            EpisodeError: `reset` was not called.
        """
        if self._episode is None:
            raise EpisodeError("there is no episode yet; call reset() first")
        return self._episode

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode; the observation is the user's opening.

        Args:
            seed: Restarts the random choice of tasks and of the user's ways; the same seed gives the same episodes from here on.
            options: `{"task_id": ...}` plays that task, of whatever split.

        Returns:
            The observation and `info`.

        Raises:
            TaskError: No such task.
            ConfigError: An unknown option.
        """
        super().reset(seed=seed)
        task_id = None
        if options:
            if unknown := sorted(set(options) - {"task_id"}, key=str):
                raise ConfigError(f"reset takes the option 'task_id', found {unknown[0]!r}")
            task_id = options["task_id"]
        draw = self.np_random.integers
        task = self._tasks[int(draw(len(self._tasks)))]
        if task_id is not None:
            task = find_task(self.domain.tasks_by_id.values(), task_id, self.domain)
        self._episode = episode = Episode(self.domain, task, max_steps=self.max_steps, seed=int(draw(1 << 31)))
        return self._hear(episode), {"task_id": task.id, "steps": 0}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take the agent's turn, and the user's where the agent wrote to the user.

        Args:
            action: Text to the user, or tool calls as `read_text` reads them. Whatever cannot be read or run is answered by an
                observation that begins "tool: Error:", never by an exception.

        Returns:
            The observation; the reward (0.0 before the end); terminated; truncated; `info`.

        Raises:
            EpisodeError: There is no episode, or it has ended; call `reset`.
            DomainError: A tool crashed.
            ModelError: A user that is a model could not answer.
        """
        episode = self._episode
        if episode is None:
            raise EpisodeError("there is no episode yet; call reset() before step()")
        if episode.awaiting is None:
            raise EpisodeError(f"the episode has ended ({episode.ending}); call reset() before the next step()")
        answers = episode.act(read_text(action))
        observation = self._hear(episode) if episode.awaiting == "user" else as_text(answers)
        info: dict[str, Any] = {"task_id": episode.task.id, "steps": episode.steps}
        if episode.awaiting is not None:
            return observation, 0.0, False, False, info
        reward = self._grade(episode, info)
        return observation, reward, episode.terminated, episode.truncated, info

    def render(self) -> str | None:
        """The dialogue so far as text, where `render_mode` is "ansi"."""
        return as_text(self.episode.messages) if self.render_mode == "ansi" else None

    def _hear(self, episode: Episode) -> str:
        reply = at_once(self.user.reply(episode.user_view()), self.user)
        episode.hear(reply)
        return f"user: {reply.content}"

    def _grade(self, episode: Episode, info: dict[str, Any]) -> float:
        evaluation = evaluate(self.domain, record(episode, user=self.user.name))
        info["ending"] = episode.ending
        info["passed"] = evaluation.passed
        for check in evaluation.checks:
            info[f"passed_{check.name}"] = check.passed and info.get(f"passed_{check.name}", True)
        return evaluation.reward or 0.0


class ToolVectorEnv(SyncVectorEnv):
    """Several `ToolEnv`s that share one domain, stepped in turn: what `gymnasium.make_vec` makes by default.

    It is Gymnasium's own synchronous vector environment, without the domain being loaded once for each environment.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        domain: str | Path | Domain = "retail",
        data: str | Path | None = None,
        **options: Any,
    ) -> None:
        """Make the environments.

        Args:
            num_envs: How many.
            max_episode_steps: Truncate an episode, ungraded, after this many steps, as `gymnasium.make` does; None or -1 for never.
            autoreset_mode: When an environment that is done starts its next episode: Gymnasium's three modes.
            domain: As in `ToolEnv`.
            data: As in `ToolEnv`.
            **options: The other arguments of `ToolEnv`.

        Raises:
            ConfigError: There is not even one environment, and as `ToolEnv`.
        """
        if num_envs < 1:
            raise ConfigError(f"num_envs is at least 1, found {num_envs}")
        settings = {
            name: options.pop(name) for name in ("split", "task_id", "tasks", "user", "max_steps", "render_mode") if name in options
        }
        shared = load_domain(domain, data=data, **options)

        def make() -> gymnasium.Env[str, str]:
            env = ToolEnv(shared, **settings)
            return env if max_episode_steps in (None, -1) else TimeLimit(env, max_episode_steps)

        super().__init__([make] * num_envs, copy=False, autoreset_mode=autoreset_mode)


def as_text(messages: Iterable[Message]) -> str:
    """Messages as the lines of an observation: "user: ...", "tool: ...", and in a rendering "assistant: ...".

    >>> as_text([Message(role="user", content="Hello"), Message(role="tool", content="{}")])
    'user: Hello\\ntool: {}'
    """
    return "\n".join([f"{message.role}: {message.content or _calls_text(message)}" for message in messages])


def _calls_text(message: Message) -> str:
    return json.dumps([{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]) if message.tool_calls else ""
