"""ToolEnv against Gymnasium's own contract, and its promises: seeds, vectors, secrets."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from random import Random

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import sentinel_env
from sentinel_env import ConfigError, EpisodeError, Message, TaskError, UnknownDomainError, list_domains, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.env import ToolEnv, ToolVectorEnv
from sentinel_env.registration import env_id, register_domains
from sentinel_env.spaces import Unicode
from sentinel_env.users import ScriptedUser

INSTALLED = sorted(list_domains())
FIND = '{"name": "find_loans", "arguments": {"member_id": "M7"}}'
RENEW = '{"name": "renew_loan", "arguments": {"loan_id": "L1"}}'
RENEWED = "That is done: renewed for two weeks. Is there anything else I can help you with?"
DONE = "That is done. Is there anything else I can help you with?"


def spell(message):
    """A message as an agent that works on text writes it."""
    return (
        message.content if not message.tool_calls else json.dumps([{"name": c.name, "arguments": c.arguments} for c in message.tool_calls])
    )


def random_action(env, random):
    """Something that an agent might write: a call with plausible or wrong arguments, words, or a broken call."""
    kind = random.random()
    if kind < 0.25:
        return random.choice(
            [
                "May I have your e-mail address, please?",
                "Shall I go ahead (yes/no)?",
                "That is done, for two weeks. Anything else?",
                "é 🙂",
                "",
                '{"name": ',
            ]
        )
    tool = random.choice(env.unwrapped.domain.tools)
    records = [key for table in env.unwrapped.domain.base.tables.values() for key in list(table)[:20]]
    arguments = {
        name: [random.choice(records)] if schema.get("type") == "array" else random.choice([*records, "ordered by mistake", "2 + 2"])
        for name, schema in tool.schema["function"]["parameters"]["properties"].items()
    }
    if kind < 0.35:
        arguments.pop(next(iter(arguments)), None) if arguments else arguments.update(extra=1)
    return json.dumps({"name": tool.name, "arguments": arguments})


def digest_of_episodes(domain, episodes, seed=0):
    """SHA-256 over all that a random agent sees, gets and is told in so many seeded episodes."""
    env = gymnasium.make("sentinel_env:sentinel/Tool-v0", domain=domain)
    random = Random(seed)
    seen = hashlib.sha256()
    for episode in range(episodes):
        seen.update(json.dumps(env.reset(seed=seed if episode == 0 else None)).encode())
        over = False
        while not over:
            step = env.step(random_action(env, random))
            seen.update(json.dumps(step).encode())
            over = step[2] or step[3]
    return seen.hexdigest()


if __name__ == "__main__":
    print(digest_of_episodes(sys.argv[1], int(sys.argv[2])))
    sys.exit()


# Gymnasium's contract


@pytest.mark.parametrize("domain", INSTALLED)
def test_every_installed_domain_passes_gymnasiums_checker_without_a_warning(domain):
    check_env(gymnasium.make(env_id(domain)).unwrapped)


@pytest.mark.parametrize("name", ["sentinel_env:sentinel/Library-v0", "sentinel_env:sentinel/Tool-v0"])
def test_gym_make_works_in_a_process_that_has_imported_nothing(name):
    code = f"import gymnasium; print(gymnasium.make({name!r}, domain='library').reset(seed=0)[0])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("user: ")


def test_importing_does_not_import_any_domain_nor_anything_heavy():
    code = (
        "import sys, sentinel_env; "
        "heavy = 'sentinel_domains', 'sentinel_train', 'sentinel_env.env', 'torch', 'transformers', 'litellm'; "
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_registering_again_changes_nothing_and_warns_of_nothing():
    before = dict(gymnasium.registry)
    register_domains()
    assert gymnasium.registry == before


def test_a_broken_plugin_does_not_break_the_import(tmp_path):
    folder = tmp_path / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[sentinel_env.domains]\nbroken = no_such_module:domain\n/bad name/ = x:y\n")
    code = """
import gymnasium, sentinel_env
print(gymnasium.spec("sentinel/Broken-v0").kwargs, gymnasium.make("sentinel/Library-v0").reset(seed=0)[0][:5])
try:
    gymnasium.make("sentinel/Broken-v0")
except sentinel_env.DomainError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("{'domain': 'broken'} user:")
    assert "domain 'broken' cannot be imported: ModuleNotFoundError: No module named 'no_such_module'" in done.stdout


@pytest.mark.parametrize("domain", INSTALLED)
def test_the_spec_survives_pickle_and_json(domain):
    kwargs = {"user": "sentinel_env.users:ScriptedUser", "max_steps": 7}
    spec = gymnasium.make(env_id(domain), **kwargs).spec
    for copy in (pickle.loads(pickle.dumps(spec)), gymnasium.envs.registration.EnvSpec.from_json(spec.to_json())):
        assert copy == spec
        first, second = gymnasium.make(copy), gymnasium.make(spec)
        assert first.reset(seed=4) == second.reset(seed=4)
        assert first.unwrapped.max_steps == 7


def test_record_episode_statistics_finds_its_key_free():
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("sentinel/Library-v0"))
    env.reset(seed=0)
    *_, info = play(env, [FIND, RENEW, RENEWED])
    assert (info["episode"]["r"], info["episode"]["l"]) == (1.0, 3)


def play(env, actions):
    for action in actions:
        step = env.step(action)
    return step


# spaces


def test_the_space_holds_any_unicode_and_its_own_samples():
    space = Unicode(seed=1)
    assert all(space.sample() in space for _ in range(500))
    assert any(not space.sample().isascii() for _ in range(50))
    assert "é🙂\0" in space
    assert "\ud800" not in space
    assert None not in space
    assert b"" not in space
    assert not space.is_np_flattenable


def test_the_space_samples_by_seed_and_compares_and_pickles_by_value():
    assert Unicode(seed=3).sample() == Unicode(seed=3).sample()
    assert Unicode(5) == Unicode(5) == pickle.loads(pickle.dumps(Unicode(5)))
    assert Unicode(5) != Unicode()
    assert "123456" not in Unicode(5)
    with pytest.raises(ConfigError, match="neither mask nor probability"):
        Unicode().sample(mask=(3, None))


# one episode


def test_a_good_agent_terminates_with_reward_one():
    env = ToolEnv("library")
    observation, info = env.reset(seed=0)
    assert observation == "user: Renew Dune for me."
    assert info == {"task_id": "renew-dune", "steps": 0}
    observation, reward, terminated, truncated, info = env.step(FIND)
    assert observation == 'tool: {"L1": {"title": "Dune", "member_id": "M7", "status": "on loan"}}'
    assert (reward, terminated, truncated, info) == (0.0, False, False, {"task_id": "renew-dune", "steps": 1})
    _, reward, terminated, truncated, info = play(env, [RENEW, RENEWED])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["ending"] == "user_stop"
    assert info["passed"] is info["passed_database"] is info["passed_communicate"] is info["passed_ended"] is True


def test_an_agent_that_forgets_to_say_it_gets_no_reward_and_is_told_which_kind_of_check_failed():
    env = ToolEnv("library")
    env.reset(seed=0)
    _, reward, terminated, _, info = play(env, [RENEW, DONE])
    assert (reward, terminated) == (0.0, True)
    assert (info["passed"], info["passed_database"], info["passed_communicate"]) == (False, True, False)


def test_a_limit_truncates_and_gives_no_reward():
    env = ToolEnv("library", max_steps=2)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = play(env, [FIND, RENEW])
    assert (reward, terminated, truncated, info["ending"], info["passed_database"]) == (0.0, False, True, "max_steps", True)


def test_stepping_without_or_after_an_episode_is_a_clear_error():
    env = ToolEnv("library", max_steps=1)
    with pytest.raises(EpisodeError, match=r"call reset\(\) before step"):
        env.step(FIND)
    env.reset()
    env.step(FIND)
    with pytest.raises(EpisodeError, match=r"the episode has ended \(max_steps\); call reset\(\)"):
        env.step(FIND)
    env.reset()
    assert env.step(FIND)[3]


@pytest.mark.parametrize("action", [b"hello", None, 7, 1.5, [], {"name": "find_loans"}, object()])
def test_an_action_that_is_no_text_is_the_agents_mistake(action):
    env = ToolEnv("library")
    env.reset(seed=0)
    assert env.step(action)[0].startswith("tool: Error: an action is text, found ")


@pytest.mark.parametrize("domain", INSTALLED)
def test_the_reference_played_as_text_gets_the_reward_in_every_domain(domain):
    env = ToolEnv(domain)
    tasks = env.domain.split()
    agent = ScriptedAgent()
    for task in tasks[:: max(1, len(tasks) // 10)]:
        observation, _ = env.reset(seed=1, options={"task_id": task.id})
        over = False
        while not over:
            observation, reward, terminated, truncated, info = env.step(spell(agent.act(env.episode.agent_view())))
            assert observation in env.observation_space
            over = terminated or truncated
        assert (reward, terminated, info["passed"]) == (1.0, True, True), task.id


def test_a_crash_of_the_domain_is_not_the_agents_mistake():
    library = load_domain("library")
    crashing = sentinel_env.Domain(
        name="library", policy="", tools=(sentinel_env.tool(crash),), database=library.database, tasks=library.tasks
    )
    env = ToolEnv(crashing)
    env.reset(seed=0)
    with pytest.raises(sentinel_env.DomainError, match=r"tool crash crashed on \{\}: ZeroDivisionError"):
        env.step('{"name": "crash"}')


def crash(db: object) -> int:
    """Divide by zero."""
    return 1 // 0


# what the agent is and is not told


@pytest.mark.parametrize("domain", INSTALLED)
def test_info_is_flat_json_and_never_holds_scenario_or_reference(domain):
    env = gymnasium.make(env_id(domain))
    random = Random(0)
    for seed in range(15):
        _, info = env.reset(seed=seed)
        over, infos = False, [info]
        while not over:
            _, _, terminated, truncated, info = env.step(random_action(env, random))
            infos.append(info)
            over = terminated or truncated
        task = env.unwrapped.episode.task
        secrets = [task.scenario.goal, *task.criteria.communicate, *(str(call.arguments) for call in task.criteria.actions)]
        for info in infos:
            assert all(isinstance(value, str | int | float | bool) for value in info.values())
            assert {key.removeprefix("passed_") for key in info} <= {"task_id", "steps", "ending", "passed", *CHECKS}
            text = json.dumps({key: value for key, value in info.items() if key not in ("task_id", "steps")})
            assert not any(secret in text for secret in secrets if len(secret) > 3)


CHECKS = ("ended", "database", "communicate", "actions")


def test_the_agent_finds_policy_tools_prompt_and_messages_behind_any_wrapper():
    env = gymnasium.make("sentinel/Library-v0")
    env.reset(seed=0)
    domain = load_domain("library")
    assert env.get_wrapper_attr("policy") == domain.policy
    assert [tool["function"]["name"] for tool in env.get_wrapper_attr("tools")] == ["find_loans", "renew_loan"]
    assert domain.policy in env.get_wrapper_attr("system_prompt")
    assert '"renew_loan"' in env.get_wrapper_attr("system_prompt")
    assert [message.role for message in env.get_wrapper_attr("messages")] == ["assistant", "user"]
    env.get_wrapper_attr("tools").clear()
    assert len(env.get_wrapper_attr("tools")) == 2


def test_the_dialogue_renders_as_text():
    env = ToolEnv("library", render_mode="ansi")
    env.reset(seed=0)
    env.step(FIND)
    assert env.render().splitlines()[1:3] == ["user: Renew Dune for me.", f"assistant: [{FIND}]"]
    with pytest.raises(ConfigError, match="render_mode is None or 'ansi', found 'human'"):
        ToolEnv("library", render_mode="human")


# choosing tasks, domains and users


def test_a_task_is_chosen_by_id_at_reset_or_for_good():
    env = ToolEnv("library")
    assert env.reset(options={"task_id": "renew-dune"})[1]["task_id"] == "renew-dune"
    assert ToolEnv("library", task_id="renew-dune").reset()[1]["task_id"] == "renew-dune"
    for make in (lambda: env.reset(options={"task_id": "renew-dun"}), lambda: ToolEnv("library", task_id="renew-dun")):
        with pytest.raises(TaskError, match="no task 'renew-dun' to play; did you mean 'renew-dune'"):
            make()
    with pytest.raises(ConfigError, match="reset takes the option 'task_id', found 'task'"):
        env.reset(options={"task": "renew-dune"})
    with pytest.raises(TaskError, match="library has no split 'exam'; its splits: train"):
        ToolEnv("library", split="exam")


def test_a_file_of_generated_tasks_is_played_instead_of_the_domains_own(tmp_path):
    library = sentinel_env.load_domain("library")
    proposals = sentinel_env.propose_tasks(library, sentinel_env.general_pattern(library), n=1)
    sentinel_env.save_tasks(tmp_path / "tasks.jsonl", [proposals[0].draft])
    env = gymnasium.make("sentinel_env:sentinel/Library-v0", tasks=str(tmp_path / "tasks.jsonl"))
    observation, info = env.reset(seed=0)
    assert "Renew Emma for me." in observation
    assert info["task_id"] == proposals[0].draft.id


def test_sampling_follows_the_seed_and_stays_in_the_split(many_tasks):
    env = ToolEnv(many_tasks, split="test")

    def ids(count):
        return [env.reset()[1]["task_id"] for _ in range(count)]

    env.reset(seed=5)
    first = ids(40)
    env.reset(seed=5)
    assert ids(40) == first
    env.reset(seed=6)
    assert ids(40) != first
    assert set(first) == {f"test-{at}" for at in range(10)}


@pytest.fixture
def many_tasks():
    library = load_domain("library")
    (task,) = library.tasks()
    tasks = [task.model_copy(update={"id": f"{split}-{at}", "split": split}) for split in ("train", "test") for at in range(10)]
    return sentinel_env.Domain(
        name="library",
        policy=library.policy,
        tools=library.tools,
        database=library.database,
        tasks=lambda: tasks,
        greeting=library.greeting,
    )


def test_a_domain_may_be_a_name_a_module_or_a_path():
    path = Path(sys.modules[load_domain("library").tools[0].function.__module__].__file__)
    for domain in ("library", "sentinel_domains.library:domain", str(path), path.parent, load_domain("library")):
        assert ToolEnv(domain).reset(seed=0)[0] == "user: Renew Dune for me."
    with pytest.raises(UnknownDomainError, match="did you mean 'library'"):
        ToolEnv("libary")


def test_retail_plays_tau2_benchs_data_from_a_folder_or_the_environment(shared, monkeypatch):
    folder = shared / "data" / "tau2_retail"
    one = gymnasium.make("sentinel/Retail-v0", data=str(folder))
    monkeypatch.setenv("SENTINEL_TAU2_DATA", str(folder))
    other = gymnasium.make("sentinel/Retail-v0")
    assert one.reset(seed=0) == other.reset(seed=0)
    assert len(one.unwrapped.domain.split()) >= 74


class Curt:
    """A user for the tests: one word, always the same."""

    name = "curt"

    def reply(self, view):
        return Message(role="user", content="Hm.")


def make_curt():
    return Curt()


NOT_A_USER = "x"


class Slow(Curt):
    async def reply(self, view):
        return Message(role="user", content="Hm.")


def test_a_user_may_be_an_object_or_a_string(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_users", sys.modules[__name__])
    for user in (Curt(), "my_users:Curt", "my_users:make_curt"):
        assert ToolEnv("library", user=user).reset()[0] == "user: Hm."
    assert isinstance(ToolEnv("library").user, ScriptedUser)
    for user in ("my_users:nobody", "no_such_module:User", "nothing", ""):
        with pytest.raises(ConfigError, match="cannot be imported as module:attribute"):
            ToolEnv("library", user=user)
    for user in ("my_users:NOT_A_USER", 3):
        with pytest.raises(ConfigError, match=r"has no reply\(view\) and name"):
            ToolEnv("library", user=user)
    with pytest.raises(EpisodeError, match="curt answers asynchronously"):
        ToolEnv("library", user=Slow()).reset()


# many environments


def rollout(envs, seed, episodes):
    """All that a random agent gets from a vector environment in so many episodes."""
    random = Random(seed)
    single = ToolEnv("library")
    rows = [list(envs.reset(seed=seed))]
    ended = 0
    while ended < episodes:
        actions = tuple(random_action(single, random) for _ in range(envs.num_envs))
        observations, rewards, terminations, truncations, infos = envs.step(actions)
        rows.append([observations, rewards.tolist(), terminations.tolist(), truncations.tolist(), infos])
        ended += int(np.sum(terminations | truncations))
    envs.close()
    return plain(rows)


def plain(value):
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("limits", [{}, {"max_episode_steps": 3}, {"max_steps": 4}], ids=["free", "gymnasium's limit", "our limit"])
def test_our_vector_environment_agrees_with_gymnasiums(mode, limits):
    make = {"id": "sentinel/Library-v0", "num_envs": 3, **limits}
    ours = gymnasium.make_vec(**make, autoreset_mode=mode)
    theirs = gymnasium.make_vec(**make, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode})
    assert type(ours) is ToolVectorEnv
    assert ours.metadata["autoreset_mode"] is mode
    assert (ours.action_space, ours.observation_space) == (theirs.action_space, theirs.observation_space)
    assert rollout(ours, 7, 50) == rollout(theirs, 7, 50)


def test_processes_agree_with_our_vector_environment():
    make = {"id": "sentinel/Library-v0", "num_envs": 2}
    ours = gymnasium.make_vec(**make)
    theirs = gymnasium.make_vec(**make, vectorization_mode="async", vector_kwargs={"shared_memory": False, "context": "forkserver"})
    assert rollout(ours, 11, 50) == rollout(theirs, 11, 50)


def test_a_vector_of_environments_shares_one_domain():
    envs = gymnasium.make_vec("sentinel/Tool-v0", num_envs=4, domain="library", max_steps=9)
    assert len({id(env.unwrapped.domain) for env in envs.envs}) == 1
    assert {env.unwrapped.max_steps for env in envs.envs} == {9}
    with pytest.raises(ConfigError, match="num_envs is at least 1"):
        gymnasium.make_vec("sentinel/Library-v0", num_envs=0)


@pytest.mark.parametrize("domain", INSTALLED)
def test_seeds_reproduce_episodes_byte_for_byte_in_processes_with_different_hash_seeds(domain):
    digests = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, __file__, domain, str(1000 // len(INSTALLED))]
        digests.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(digests) == 1
    assert len(digests.pop()) == 65
