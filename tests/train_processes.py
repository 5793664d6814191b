"""Users for runs of several processes: one that notes what it hears, ends after an odd answer and can be told to hang, and broken ones.

`SENTINEL_NOTES` is the folder to note into; with `SENTINEL_HANG` it hangs as soon as there is a file of that name.
"""

import json
import os
import time
from pathlib import Path

from sentinel_env import DomainError, Message, ModelError


class Noting:
    name = "noting"

    def reply(self, view) -> Message:
        notes, rank = Path(os.environ["SENTINEL_NOTES"]), os.environ["RANK"]
        heard = [message.content for message in view.messages if message.role == "assistant"]
        with (notes / f"{rank}.jsonl").open("a") as file:
            file.write(json.dumps(heard[-1:]) + "\n")
        if os.environ.get("SENTINEL_HANG") and Path(os.environ["SENTINEL_HANG"]).exists():
            (notes / f"{rank}.hangs").touch()
            time.sleep(1000)
        over = len(heard) > 1 and len(heard[-1]) % 2
        return Message(role="user", content="###STOP###" if over else view.scenario.goal)


class Down:
    name = "down"

    def reply(self, view) -> Message:
        raise ModelError("connection refused")


class Partly:
    name = "partly"

    def reply(self, view) -> Message:
        if os.environ["RANK"] == "1":
            raise DomainError("process 1 broke")
        return Message(role="user", content="hi")


noting, down, partly = Noting(), Down(), Partly()
