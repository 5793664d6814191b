"""tau2-bench's own gym on the actions that `engine.py` hands over; run by an interpreter that has tau2-bench, not ours.

    PYTHONPATH=CHECKOUT/src TAU2_DATA_DIR=CHECKOUT/data PYTHON benchmarks/tau2_gym.py < plans.json

`plans.json` is {task id: [action, ...]}. Prints one JSON object: the name of a row of `engine.py` -> the figure in that row's unit.
The user simulator is replaced by one that greets and then stops, the judge is given nothing to judge and logging is off, so that no
model and no network is measured.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

start = time.perf_counter()
import tau2.gym.gym_agent as gym_agent  # noqa: E402

IMPORT_SECONDS = time.perf_counter() - start

from loguru import logger  # noqa: E402
from tau2.data_model.message import UserMessage  # noqa: E402
from tau2.user.user_simulator import UserSimulator  # noqa: E402

logger.remove()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


IMPORT_BYTES = resident_bytes()


def reply(self, message, state):
    """Greet, then stop."""
    first = not any(isinstance(each, UserMessage) for each in state.messages)
    answer = UserMessage(role="user", content="Hello." if first else "###STOP###")
    state.messages.extend([message, answer])
    return answer, state


def unjudged(load=gym_agent.AgentGymEnv._get_task):
    def task_without_assertions(self):
        task = load(self)
        task.evaluation_criteria.nl_assertions = None
        return task

    return task_without_assertions


UserSimulator.generate_next_message = reply
gym_agent.AgentGymEnv._get_task = unjudged()


def timed(function, *arguments):
    begin = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begin, result


def main():
    plans = json.load(sys.stdin)
    resets, reads, writes, grades, rewards = [], [], [], [], 0.0
    whole = time.perf_counter()
    for task_id, actions in plans.items():
        env = gym_agent.AgentGymEnv(domain="retail", task_id=task_id, max_steps=1000)
        resets.append(timed(env.reset)[0])
        for action in actions:
            kind = reads if action.startswith(('{"name": "get_', '{"name": "find_', '{"name": "list_')) else writes
            kind.append(timed(env.step, action)[0])
        _, reward, terminated, _, _ = env.step("That is done.")
        assert terminated, "the user's stop ends the episode"
        rewards += reward
    whole = time.perf_counter() - whole
    for task_id in list(plans)[:10]:
        env = gym_agent.AgentGymEnv(domain="retail", task_id=task_id, max_steps=1000)
        env.reset()
        env.step("That is done.")
        grades.append(timed(env._get_reward)[0])
    before = resident_bytes()
    live = [gym_agent.AgentGymEnv(domain="retail", task_id=next(iter(plans)), max_steps=1000) for _ in range(20)]
    for env in live:
        env.reset()
    held = (resident_bytes() - before) / len(live)
    figures = {
        "import sentinel_env": IMPORT_SECONDS,
        "  its resident memory": IMPORT_BYTES / 2**20,
        "reset": 1e6 * statistics.median(resets),
        "step: a read": 1e6 * statistics.median(reads),
        "step: a write": 1e6 * statistics.median(writes),
        "steps per second, reads": 1 / statistics.median(reads),
        "grade, the reference cached": 1e6 * statistics.median(grades),
        f"{len(plans)} reference episodes": whole,
        "  by resident memory": held / 1024,
    }
    print(f"{rewards:.0f} of {len(plans)} rewarded", file=sys.stderr)
    print(json.dumps(figures), flush=True)
    os._exit(0)  # its threads still wait for actions


if __name__ == "__main__":
    main()
