"""The scripted episodes through gymnasium.make and the vector environments, as text."""

import gymnasium
import pytest
from conformance import MAX_STEPS, SCRIPTS, SEED, in_text

from sentinel_env import ModelError
from sentinel_env.env import ToolEnv

BY_DOMAIN = {domain: [script for script in SCRIPTS if script.domain == domain] for domain in ("conformance:retail", "conformance:library")}
GRADED = [script for script in SCRIPTS if script.reward is not None]
(FAULT,) = (script for script in SCRIPTS if script.reward is None)
SETTINGS = {"user": "conformance:customer", "max_steps": MAX_STEPS}
IDLE = '{"name": "nothing"}'
"""For an environment whose script is over and that plays another episode: no word to the user."""
each_script = pytest.mark.parametrize("script", GRADED, ids=lambda script: script.name)


def make(script, **settings):
    return gymnasium.make("sentinel_env:sentinel/Tool-v0", domain=script.domain, **SETTINGS | settings)


def play(env, script):
    """Every script ends with its last turn, not before."""
    env.reset(seed=SEED, options={"task_id": script.name})
    total = 0.0
    for at, turn in enumerate(script.turns, 1):
        _, reward, terminated, truncated, info = env.step(in_text(turn))
        total += reward
        assert (terminated or truncated) == (at == len(script.turns))
    return total, info


@each_script
def test_a_script_comes_out_as_everywhere(script):
    env = make(script)
    reward, info = play(env, script)
    assert (reward, info["ending"], env.unwrapped.episode.db.changes()) == script.expected
    assert info["passed"] == bool(script.reward)
    assert not any(isinstance(value, dict | list) for value in info.values())


def test_a_fault_of_the_users_model_is_raised_and_is_no_reward_and_the_environment_goes_on():
    env = make(FAULT)
    with pytest.raises(ModelError, match="out of order") as caught:
        play(env, FAULT)
    assert caught.value.kind == "server"
    other = BY_DOMAIN[FAULT.domain][0]
    assert play(env, other)[0] == other.reward


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
@pytest.mark.parametrize("domain", BY_DOMAIN)
def test_all_scripts_of_a_domain_side_by_side_come_out_as_everywhere(domain, mode):
    scripts = [script for script in BY_DOMAIN[domain] if script in GRADED]
    count = len(scripts)
    envs = gymnasium.make_vec("sentinel_env:sentinel/Tool-v0", num_envs=count, vectorization_mode=mode, domain=domain, **SETTINGS)
    inner = [env.unwrapped for env in envs.envs]
    assert all(isinstance(env, ToolEnv) for env in inner)
    envs.reset(seed=SEED)
    for env, script in zip(inner, scripts, strict=True):
        env.reset(seed=SEED, options={"task_id": script.name})  # Gymnasium gives all of them one task_id
    came = {}
    for at in range(max(len(script.turns) for script in scripts)):
        live = [at < len(script.turns) for script in scripts]
        actions = [in_text(script.turns[at]) if on else IDLE for script, on in zip(scripts, live, strict=True)]
        _, rewards, terminated, truncated, infos = envs.step(actions)
        for place, script in enumerate(scripts):
            if live[place] and (terminated[place] or truncated[place]):
                came[script.name] = float(rewards[place]), infos["ending"][place], inner[place].episode.db.changes()
    assert came == {script.name: script.expected for script in scripts}
    envs.close()
