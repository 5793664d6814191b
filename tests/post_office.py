"""A post office, the small domain in which attribution is tested: whatever works here owes nothing to retail."""

from pydantic import Field

from sentinel_env import Criteria, Database, Domain, Episode, Message, Record, Scenario, Table, Task, ToolCall, ToolError, tool
from sentinel_env.access import Access
from sentinel_env.trajectory import Trajectory, record


class Parcel(Record):
    owner: str
    street: str
    tags: list[str] = Field(default_factory=list)
    sealed: bool = False


class PostDB(Database):
    parcels: Table[Parcel]


@tool
def identify(db: PostDB, name: str) -> str:
    """Say who the caller is."""
    if not any(parcel.owner == name for parcel in db.parcels.values()):
        raise ToolError(f"nobody is called {name!r}")
    return name


@tool
def look(db: PostDB, parcel_id: str) -> Parcel:
    """Read a parcel."""
    return found(db, parcel_id)


@tool
def transfer_to_human(db: PostDB) -> str:
    """Hand the caller over."""
    return "transferred"


@tool(writes=True)
def readdress(db: PostDB, parcel_id: str, street: str) -> Parcel:
    """Send a parcel elsewhere, while it is not sealed."""
    if found(db, parcel_id).sealed:
        raise ToolError(f"parcel {parcel_id} is sealed")
    return db.parcels.update(parcel_id, street=street)


@tool(writes=True)
def seal(db: PostDB, parcel_id: str) -> Parcel:
    """Seal a parcel, for good."""
    if found(db, parcel_id).sealed:
        raise ToolError(f"parcel {parcel_id} is sealed")
    return db.parcels.update(parcel_id, sealed=True)


@tool(writes=True)
def put_tags(db: PostDB, parcel_id: str, tags: list[str]) -> Parcel:
    """Replace the tags of a parcel."""
    found(db, parcel_id)
    return db.parcels.update(parcel_id, tags=tags)


def found(db: PostDB, parcel_id: str) -> Parcel:
    parcel = db.parcels.get(parcel_id)
    if parcel is None:
        raise ToolError(f"no parcel {parcel_id!r}")
    return parcel


domain = Domain(
    name="post",
    policy="Ask who the caller is. Before a change say what you will do and ask the caller to confirm.",
    tools=(identify, look, transfer_to_human, readdress, seal, put_tags),
    database=lambda: PostDB(
        parcels={f"P{at}": Parcel(owner="ann" if at < 4 else "bob", street=f"{at} Elm Street") for at in range(1, 6)},
    ),
    access=Access(
        identified_by=("identify",),
        owner=lambda db, call: parcel.owner if (parcel := db.parcels.get(call.arguments.get("parcel_id", ""))) else None,
    ),
)


def call(name: str, /, **arguments: object) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def task(
    *actions: ToolCall, goal: str = "Readdress parcel P1 to 9 Oak Road.", communicate: tuple[str, ...] = (), **scenario: object
) -> Task:
    criteria = Criteria(actions=actions, communicate=communicate)
    return Task(id="t", domain="post", scenario=Scenario(goal=goal, **scenario), criteria=criteria)


def play(problem: Task, *turns: object, world: Domain = domain, user: str = "a model") -> Trajectory:
    """Each turn is the agent's call, message or text, or, after "> ", the user's text; the user opens, with the goal if need be."""
    episode = Episode(world, problem, max_steps=60)
    if not (isinstance(turns[0], str) and turns[0].startswith("> ")):
        turns = (f"> {problem.scenario.goal}", *turns)
    for turn in turns:
        if isinstance(turn, str) and turn.startswith("> "):
            episode.hear(Message(role="user", content=turn[2:]))
        elif isinstance(turn, str):
            episode.act(Message(role="assistant", content=turn))
        elif isinstance(turn, ToolCall):
            episode.act(Message(role="assistant", tool_calls=(turn,)))
        else:
            episode.act(turn)
    return record(episode, user=user)


def carried_out(problem: Task, *writes: ToolCall, end: str = "> Thanks. ###STOP###", **more: object) -> Trajectory:
    """The whole talk around writes that were proposed and agreed to."""
    looks = tuple(call("look", parcel_id=key) for key in dict.fromkeys(each.arguments["parcel_id"] for each in writes))
    return play(
        problem,
        call("identify", name="ann"),
        *looks,
        "I will do that. Please confirm.",
        "> Yes, please go ahead.",
        *writes,
        "I am through.",
        end,
        **more,
    )
