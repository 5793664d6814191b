"""Models that play by script behind a real server: what a good agent and a good customer send, and faults mixed in.

ModelServer(scripted(domain, tasks, seed=5))        # plays both sides; which one, it sees from the request
"""

import json
from collections import Counter
from random import Random

from sentinel_env.agents import ScriptedAgent
from sentinel_env.episode import AgentView, UserView
from sentinel_env.messages import Message
from sentinel_env.model_server import Reply
from sentinel_env.runner import trial_seed
from sentinel_env.users import ScriptedUser


def scripted(domain, tasks, *, seed=0, trials=1, agent=None, user=None):
    """A script that answers as the scripted agent and the scripted user would; the task is known by the request's seed."""
    agent, user = agent or ScriptedAgent(tasks=tasks), user or ScriptedUser()
    by_seed = {trial_seed(seed, task.id, trial): task for task in tasks for trial in range(trials)}

    def script(request):
        if request["max_tokens"] == 1:  # a question about the server
            return Reply("Hello")
        task = tasks[0] if len(tasks) == 1 else by_seed[request["seed"]]
        if is_users(request):
            return Reply(user.reply(UserView(task.scenario, domain, turned(request), request["seed"])).content)
        said = agent.act(AgentView(domain, task.id, tuple(understood(request)), request["seed"]))
        if "tools" in request or not said.tool_calls:
            return Reply(said.content, calls=said.tool_calls)
        (call,) = said.tool_calls
        return Reply(json.dumps({"name": call.name, "arguments": call.arguments}))

    return script


def is_users(request):
    return request["messages"][0]["content"].startswith("You play a customer")


def turned(request):
    """The conversation as the customer's side has it, without notes."""
    rows = request["messages"][1:]
    if rows[-1]["content"].startswith("[A note"):
        rows = rows[:-2]  # with the message that it is about
    rows = [row for row in rows if not row["content"].startswith("(The line is open")]
    return tuple(Message(role="user" if row["role"] == "assistant" else "assistant", content=row["content"]) for row in rows)


def understood(request):
    """The dialogue without the system message, and without turns that were answered by an error about their form."""
    found = []
    for row in request["messages"][1:]:
        if row["role"] == "user" and row["content"].startswith(("Error: ", "tool: Error: ")) and found[-1].role == "assistant":
            found.pop()
        else:
            found.append(Message.from_openai(row))
    return found


def faulty(script, faults, *, share=0.2, seed=0):
    """The script with a share of its answers replaced by faults, drawn for each request and how often it came, not by its turn."""
    asked = Counter()

    def answer(request):
        right = script(request)
        content = json.dumps([request["messages"], request.get("seed")])
        random = Random(f"{seed} {asked[content]} {content}")
        asked[content] += 1
        return random.choice(faults) if random.random() < share else right

    return answer
