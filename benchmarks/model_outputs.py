"""What models send that no provider should: does it ever raise, or change a reward?

    python benchmarks/model_outputs.py                       # 100,000 fuzzed answers; some minutes
    python benchmarks/model_outputs.py --outputs 2000        # smaller
    python benchmarks/model_outputs.py --side user           # only the customer's model: "agent", "user", "both", "text" or "harmless"

A `ModelServer` answers as the scripted agent and the scripted user would, but a share of its answers is fuzzed
(`sentinel_env.fuzzed_responses`): whole HTTP responses, changed in one to three ways and sometimes damaged as bytes. They go the way of
every answer: socket, client, reader, `LLMAgent` or `LLMUser` with its guards, `Episode`, record, JSON line. `text` sends the same texts as
actions of a `ToolEnv` instead. With `harmless` only what does not touch the answer's meaning is changed.

What has to hold for every episode, found out without the code that is tested wherever that is possible:

1. Nothing is raised. An attempt ends with a result or with a `ModelError` of a stated kind.
2. Its JSON line reads back as the same trajectory and writes the same bytes.
3. `replay` of what was read back gives the same tool answers, changes and ending.
4. Its changes are those of its recorded, answered, not refused calls of write tools, applied one after the other to a fresh database by the
   tools themselves; without such a call there are none.
5. Each call that ran has a name and ASCII values that stand in the body of an answer which this very attempt got (the agent's model only).
6. The reward is None for a `ModelError`; else 1 if the conversation ended by itself, the changes of 4 are those of the reference's
   write calls, and the agent's recorded texts hold every answer that the task wants told; else 0.
7. With `harmless`: every conversation is, word for word, the one without fuzzed answers, and every reward is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sentinel_env import (
    Domain,
    Message,
    ScriptedAgent,
    ScriptedUser,
    Task,
    ToolCall,
    ToolError,
    Trajectory,
    evaluate,
    load_domain,
    run_tasks,
)
from sentinel_env.env import ToolEnv
from sentinel_env.errors import ModelError
from sentinel_env.evaluation import is_said
from sentinel_env.fuzzed_responses import fuzz_response
from sentinel_env.fuzzing import fuzzed_calls
from sentinel_env.llm import Completion, Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_user import LLMUser
from sentinel_env.model_server import ModelServer, Reply, completion
from sentinel_env.trajectory import dump_line, read_trajectories, record, replay

SIDES = ("agent", "user", "both", "harmless", "text")
_PART = re.compile(r'"text": "((?:[^"\\]|\\.)*)"')
"""A part of a content in parts: a value may begin in one and end in the next."""
TASKS = 60
PER_BATCH = 240
"""Episodes of one run; what is known of a batch is forgotten after it."""


# the server's part


@dataclass
class Source:
    """The script of a server: what the scripted sides said, now and then fuzzed."""

    domain: Domain
    share: float
    """Of the answers that are fuzzed."""
    fuzzes: tuple[str, ...]
    """Which sides."""
    harmless: bool
    random: Random
    calls: Sequence[ToolCall]
    written: dict[int, tuple[Message, ...]] = field(default_factory=dict)
    """Seed of an attempt -> its messages as the scripted sides wrote them."""
    sent: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Seed of an attempt -> the bodies that its agent's model got."""
    made: Counter[str] = field(default_factory=Counter)
    fuzzed: int = 0

    def __call__(self, request: Mapping[str, Any]) -> Reply:
        seed = request["seed"]
        is_user = request["messages"][0]["content"].startswith("You play a customer")
        said = self._right(request["messages"][1:], self.written[seed], is_user)
        calls = said.tool_calls
        if "tools" not in request and not is_user and calls:  # tools in text
            said, calls = Message(role="assistant", content=json.dumps([each.model_dump() for each in calls])), ()
        good = completion(request, Reply(said.content, calls=calls))
        side = "user" if is_user else "agent"
        if side in self.fuzzes and self.random.random() < self.share:
            fuzzed = fuzz_response(good, self.random, self.random.sample(self.calls, 4), harmless=self.harmless)
            self.fuzzed += 1
            self.made.update("another status" if name.startswith("HTTP") else name for name in fuzzed.names)
            reply = Reply(body=fuzzed.body, status=fuzzed.status, headers=fuzzed.headers)
        else:
            reply = Reply(body=json.dumps(good).encode())
        if not is_user:
            assert reply.body is not None
            body = reply.body.decode("utf-8", "replace")
            self.sent[seed].append(body + "".join(_PART.findall(body)))
        return reply

    def _right(self, rows: Sequence[Mapping[str, Any]], written: Sequence[Message], is_user: bool) -> Message:
        """The message of the script that is due: the next one, or the same again where the last was answered by an error."""
        own = [message for message in written if message.role == ("user" if is_user else "assistant")]
        again = ("[A note",) if is_user else ("Error: ", "tool: Error: ")
        at = sum(row["role"] == "assistant" for row in rows) - sum(
            row["role"] != "assistant" and row["content"].startswith(again) for row in rows
        )
        return own[max(0, min(at, len(own) - 1))]


class Counted(Model):
    """A model whose every attempt is counted by what came of it."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.ends: Counter[str] = Counter()

    async def complete(self, *args: Any, **settings: Any) -> Completion:
        try:
            found = await super().complete(*args, **settings)
        except ModelError as error:
            self.ends[f"ModelError ({error.kind})"] += 1
            raise
        kind = "calls" if found.calls else "unreadable calls" if found.problem else "text" if found.text.strip() else "empty"
        self.ends[f"answer: {kind}"] += 1
        return found


# what has to hold


class Violation(Exception):
    """Something that must not be."""


def check(domain: Domain, result: Trajectory, sent: Sequence[str] | None) -> str:
    """Look at one attempt; what became of it.

    Raises:
        Violation: One of 2 to 6 does not hold.
    """
    line = dump_line(result)
    again = Trajectory.model_validate_json(line)
    need(again == result and dump_line(again) == line, "2: its line reads back as something else", result)
    if result.error is not None and not result.error.startswith("ModelError: "):
        raise Violation(f"1: {result.id} ended by {result.error}")
    try:
        replay(domain, again)
    except Exception as error:
        raise Violation(f"3: {result.id} does not replay: {type(error).__name__}: {error}") from error
    ran = executed(result)
    need(carried_out(domain, result.task, ran) == result.changes, "4: its changes are not those of its calls", result)
    for call in ran if sent is not None else ():
        need(any(stands_in(call, body) for body in sent or ()), f"5: nobody sent {call}", result)
    reward = evaluate(domain, result).reward
    texts = [each.content for each in result.messages if each.role == "assistant" and not each.tool_calls and not each.problem]
    earned = (
        result.ending in ("user_stop", "transfer", "out_of_scope")
        and result.changes == carried_out(domain, result.task, result.task.criteria.actions)
        and all(is_said(wanted, texts) for wanted in result.task.criteria.communicate)
    )
    if set(result.task.criteria.basis) <= {"database", "communicate"}:
        need(reward == (None if result.error is not None else float(earned)), f"6: its reward is {reward}, earned {earned}", result)
    return {None: "no reward: ModelError", 1.0: "reward 1", 0.0: "reward 0"}[reward]


def need(holds: bool, why: str, result: Trajectory) -> None:
    if not holds:
        raise Violation(f"{why}; {result.id}, error {result.error}, seed {result.seed}: {str(result)[:2000]}")


def executed(result: Trajectory) -> list[ToolCall]:
    """The calls that were answered without an error, by their places: answers follow their message in order."""
    found, due = [], list[ToolCall]()
    for message in result.messages:
        if message.role == "assistant":
            due = [] if message.problem else list(message.tool_calls)
        elif message.role == "tool" and due:
            call = due.pop(0)
            if not message.is_error:
                found.append(call)
    return found


def carried_out(domain: Domain, task: Task, calls: Sequence[ToolCall]) -> Mapping[str, Any]:
    """What calls of write tools change, by the tools themselves."""
    db = domain.start(task)
    for call in calls:
        tool = domain.tools_by_name.get(call.name)
        if tool is not None and tool.writes:
            try:
                tool.run(db, call.arguments)
            except ToolError as error:
                raise Violation(f"4: {call} was carried out, and is refused now: {error}") from None
    return db.changes()


def stands_in(call: ToolCall, body: str) -> bool:
    """Whether a body holds a call's name and each of its plain values."""
    return all(value in body for value in (call.name, *plain_values(call.arguments)))


def plain_values(value: Any) -> list[str]:
    """The texts in a value that look the same in every JSON."""
    if isinstance(value, str):
        return [value] if value.isascii() and value.isprintable() and not set(value) & set("\"\\'?/") else []
    return [
        text
        for each in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        for text in plain_values(each)
    ]


# the parts


def through_models(side: str, outputs: int, options: argparse.Namespace) -> dict[str, Any]:
    """Whole HTTP responses, in batches of episodes."""
    domain = load_domain("retail")
    tasks = domain.split("train")[:TASKS]
    harmless = side == "harmless"
    fuzzes = ("agent", "user") if side in ("both", "harmless") else (side,)
    random = Random(f"{options.seed} {side}")
    calls = list(fuzzed_calls(domain, [call for task in tasks for call in task.criteria.actions], random, per_tool=40))
    calls += [call for task in tasks for call in task.criteria.actions]
    source = Source(domain, 0.8 if harmless else options.share, fuzzes, harmless, random, calls)
    became: Counter[str] = Counter()
    counted: dict[str, Counter[str]] = {each: Counter() for each in fuzzes}
    attempts: Counter[str] = Counter()
    ran = refused = changed = batch = 0
    with ModelServer(source, remembers=False) as server, tempfile.TemporaryDirectory() as folder:
        while source.fuzzed < outputs:
            seed, trials = options.seed * 10_000 + batch, PER_BATCH // len(tasks)
            calm = run_tasks(domain, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=trials, seed=seed)
            source.written = {each.seed: each.messages for each in calm}
            source.sent.clear()
            settings: dict[str, Any] = {"base_url": server.url, "attempts": options.attempts, "timeout": 60.0}
            models = {each: Counted(each, **settings, random=Random(batch)) for each in fuzzes}
            in_text = not harmless and batch % 3 == 2
            agent: Any = LLMAgent(models["agent"], tools_in_text=in_text) if "agent" in models else ScriptedAgent(tasks=tasks)
            user: Any = LLMUser(models["user"]) if "user" in models else ScriptedUser()
            out = Path(folder) / f"{side}-{batch}"
            results = run_tasks(domain, tasks, agent, user, trials=trials, seed=seed, concurrency=options.concurrency, out=out)
            kept = {each.id: each for each in read_trajectories(out)}
            kept |= {each.id: each for each in read_trajectories(out / "errors.jsonl")} if (out / "errors.jsonl").exists() else {}
            for result, before in zip(results, calm, strict=True):
                need(kept.pop(result.id, None) == result, "2: its file holds something else", result)
                became[check(domain, result, source.sent[result.seed] if "agent" in fuzzes else None)] += 1
                if harmless:
                    there = next((pair for pair in zip(plain(result), plain(before), strict=False) if pair[0] != pair[1]), "its end")
                    need(result.error is None and plain(result) == plain(before), f"7: it went another way from {there}", result)
                ran += len(executed(result))
                refused += sum(message.is_error for message in result.messages)
                changed += bool(result.changes)
            need(not kept, f"2: the files hold more: {list(kept)}", results[0])
            for each in fuzzes:
                counted[each] += models[each].ends
                attempts["attempts"] += models[each].spent.calls
                attempts["without an answer"] += models[each].spent.failed
            batch += 1
            print(f"{side}: {source.fuzzed:,} fuzzed answers, {sum(became.values()):,} episodes", file=sys.stderr, flush=True)
    return {
        "fuzzed answers": source.fuzzed,
        "requests": dict(attempts),
        "questions ended in": {each: dict(sorted(found.items())) for each, found in counted.items()},
        "episodes": dict(sorted(became.items())),
        "calls that ran": ran,
        "calls or turns refused": refused,
        "episodes that changed the database": changed,
        "changes made": dict(source.made.most_common()),
    }


def plain(result: Trajectory) -> list[Any]:
    """A conversation without the names that a provider gives calls."""
    return [
        (each.role, each.content, [(call.name, call.arguments) for call in each.tool_calls], each.is_error, each.problem)
        for each in result.messages
    ]


def through_text(outputs: int, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzzed texts as actions of a `ToolEnv`, with the scripted agent's between them."""
    domain = load_domain("retail")
    tasks = domain.split("train")[:TASKS]
    random = Random(f"{options.seed} text")
    calls = list(fuzzed_calls(domain, [call for task in tasks for call in task.criteria.actions], random, per_tool=40))
    env = ToolEnv(domain, max_steps=30)
    became: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    made = episodes = 0
    while made < outputs:
        task = tasks[episodes % len(tasks)]
        env.reset(seed=episodes, options={"task_id": task.id})
        agent, at, over, reward = ScriptedAgent(tasks=tasks).script(domain, task), 0, False, 0.0
        while not over:
            right = agent[at] if at < len(agent) else Message(role="assistant", content="Is there anything else I can help you with?")
            text = (
                json.dumps([each.model_dump(include={"name", "arguments"}) for each in right.tool_calls])
                if right.tool_calls
                else right.content
            )
            if random.random() < options.share:
                good = completion({"messages": []}, Reply(right.content, calls=right.tool_calls))
                text = as_action(fuzz_response(good, random, random.sample(calls, 3)).body, text, random)
                made += 1
                kinds[_kind(text)] += 1
            before = env.episode.errors
            _, reward, terminated, truncated, _ = env.step(text)
            over = terminated or truncated
            at += env.episode.errors == before
        episodes += 1
        result = record(env.episode)
        became[check(domain, result, None)] += 1
        if reward != (evaluate(domain, result).reward or 0.0):
            raise Violation(f"6: step() gave {reward} for {result.id}")
    return {"fuzzed actions": made, "read as": dict(kinds), "episodes": dict(sorted(became.items()))}


def as_action(body: bytes, text: str, random: Random) -> str:
    """A text that a model could write as its action: a part of a fuzzed body, or a good action that is damaged."""
    whole = body.decode("utf-8", "replace")[:200_000]
    try:
        message = json.loads(whole)["choices"][0]["message"]
        calls, content = message.get("tool_calls"), message.get("content")
        return random.choice(
            (content if isinstance(content, str) else whole, json.dumps(calls), f"<tool_call>{json.dumps(calls)}</tool_call>", str(calls))
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        at = random.randrange(len(text) + 1)
        return random.choice((whole, text[:at], text[at:], text + text, text[:at] + random.choice('{}[]"\\,:\x00\ud800') + text[at:]))


def _kind(text: str) -> str:
    from sentinel_env import parse_action

    read = parse_action(text)
    return "unreadable" if read.problem else "calls" if read.tool_calls else "text" if read.content.strip() else "empty"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=100_000, help="fuzzed answers, a fifth for each side")
    parser.add_argument("--side", choices=SIDES, help="only this one")
    parser.add_argument("--share", type=float, default=0.4, help="of the answers that are fuzzed")
    parser.add_argument("--attempts", type=int, default=3, help="how often a question is asked at most")
    parser.add_argument("--concurrency", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sides = (options.side,) if options.side else SIDES
    for side in sides:
        began, cpu = time.perf_counter(), time.process_time()
        share = -(-options.outputs // len(sides))
        found = through_text(share, options) if side == "text" else through_models(side, share, options)
        found |= {"seconds": round(time.perf_counter() - began, 1), "CPU seconds": round(time.process_time() - cpu, 1)}
        print(json.dumps({side: found}, indent=2), flush=True)


if __name__ == "__main__":
    main()
