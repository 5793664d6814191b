"""The facade against the real TRL: what it takes for tools, what it shows the model, how it grades."""

import copy
import doctest
import inspect
import itertools
from dataclasses import replace
from typing import Any, Literal

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from post_office import domain as post_office  # noqa: E402
from train_fixtures import GOODBYE, Brief, library  # noqa: E402
from transformers.utils import get_json_schema  # noqa: E402

from sentinel_env import (  # noqa: E402
    ConfigError,
    DomainError,
    Episode,
    ModelError,
    ScriptedAgent,
    ScriptedUser,
    TaskError,
    drive,
    evaluate,
    load_domain,
    record,
    tool,
)
from sentinel_train import signatures  # noqa: E402
from sentinel_train.dataset import COLUMN, to_dataset  # noqa: E402
from sentinel_train.facade import OVER, make_rollout_class, message_user  # noqa: E402
from sentinel_train.models import set_threads  # noqa: E402
from sentinel_train.signatures import hint_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
DOMAINS = {"library": library(), "retail": load_domain("retail"), "post": post_office}
LIBRARY = library()
TASK = LIBRARY.split()[0]


def tools_of(instance):
    """TRL's member rule, word for word."""
    return {
        name: getattr(instance, name)
        for name, _ in inspect.getmembers(type(instance), predicate=inspect.isfunction)
        if name not in ("reset", "get_reward") and not name.startswith("_")
    }


def row(task):
    return {"prompt": [{"role": "user", "content": ""}], COLUMN: task.model_dump_json()}


def started(domain=LIBRARY, user=None, task=None, **settings):
    instance = make_rollout_class(domain, user or Brief(), **settings)()
    instance.reset(**row(task or domain.split()[0]))
    return instance


def say(instance, text):
    return instance.message_user(message=text)


def finish(instance):
    """Win the library's task."""
    say(instance, "May I have your card number?")
    instance.renew_loan(loan_id="L1")
    return say(instance, "It is renewed for two weeks.")


# what TRL takes for tools


@pytest.mark.parametrize("name", DOMAINS)
def test_the_tools_are_those_of_the_domain_and_message_user(name):
    domain = DOMAINS[name]
    instance = make_rollout_class(domain, ScriptedUser())()
    found = tools_of(instance)
    assert set(found) == {*domain.tools_by_name, "message_user"}
    assert all(method.__name__ == name for name, method in found.items())
    assert callable(type(instance).reset)
    assert callable(type(instance).get_reward)


def readable(schema):
    """A tool's schema without what transformers leaves out: an empty list of required arguments."""
    function = schema["function"]
    parameters = {key: value for key, value in function["parameters"].items() if (key, value) != ("required", [])}
    return {**schema, "function": {**function, "parameters": parameters}}


@pytest.mark.parametrize("name", ["library", "retail"])
def test_transformers_reads_the_domains_own_schemas(name):
    domain = DOMAINS[name]
    found = tools_of(make_rollout_class(domain, ScriptedUser())())
    for each in (*domain.tools, message_user):
        assert get_json_schema(found[each.name]) == readable(each.schema)


def test_a_tool_without_texts_is_described_by_its_names():
    schema = get_json_schema(make_rollout_class(post_office, ScriptedUser())().put_tags)["function"]
    assert schema["parameters"]["properties"]["parcel_id"] == {"type": "string", "description": "parcel id"}
    assert schema["parameters"]["properties"]["tags"] == {"type": "array", "items": {"type": "string"}, "description": "tags"}


@tool
def pack(
    db: Any,
    size: Literal["small", "large"],
    weights: list[float],
    labels: dict[str, int] | None = None,
    place: tuple[int, str] = (0, ""),
    fragile: bool = False,
) -> str:
    """Pack a box.

    Mind the weight.

    Args:
        size: How large it is,
            roughly.
        weights: In kilograms.
        labels: What is written on it.
        place: Shelf and side.
        fragile: Whether it breaks.
    """
    return f"{size} {sum(weights)} {labels} {place} {fragile}"


def test_all_kinds_of_arguments_have_a_schema():
    domain = replace(LIBRARY, tools=(pack,))
    schema = get_json_schema(make_rollout_class(domain, Brief())().pack)["function"]
    assert schema["description"] == "Pack a box.\n\nMind the weight."
    assert schema["parameters"]["required"] == ["size", "weights"]
    properties = schema["parameters"]["properties"]
    assert properties["size"] == {"type": "string", "enum": ["small", "large"], "description": "How large it is, roughly."}
    assert properties["weights"] == {"type": "array", "items": {"type": "number"}, "description": "In kilograms."}
    assert properties["labels"]["additionalProperties"] == {"type": "integer"}
    assert properties["labels"]["nullable"] is True
    assert properties["place"]["prefixItems"] == [{"type": "integer"}, {"type": "string"}]
    assert properties["fragile"]["type"] == "boolean"


def test_the_examples_of_the_signatures_run():
    assert doctest.testmod(signatures) == (0, 1)


def test_references_are_followed_and_objects_keep_their_kind_only():
    definitions = {"Size": {"enum": ["s"], "type": "string"}, "Box": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    assert hint_of({"$ref": "#/$defs/Size"}, definitions) == Literal["s"]
    assert hint_of({"$ref": "#/$defs/Box"}, definitions) is dict


@pytest.mark.parametrize("name", ["reset", "get_reward", "message_user", "episode", "error", "_hidden"])
def test_a_tool_with_a_name_that_trl_or_the_class_needs_is_refused(name):
    def taken(db: Any) -> str:
        """Do nothing."""
        return ""

    taken.__name__ = name
    with pytest.raises(ConfigError, match=f"a tool is called '{name}'"):
        make_rollout_class(replace(LIBRARY, tools=(tool(taken),)), Brief())


def test_the_class_is_named_after_the_domain():
    assert make_rollout_class(replace(LIBRARY, name="my-lending_library"), Brief()).__name__ == "MyLendingLibraryRollout"


# the episode


def replayed(instance, episode):
    """Do what an episode's agent did through the class, and return what was answered."""
    answers = []
    for message in episode.messages[1 if episode.domain.greeting else 0 :]:
        if message.role == "assistant" and message.tool_calls:
            answers += [getattr(instance, call.name)(**call.arguments) for call in message.tool_calls]
        elif message.role == "assistant":
            answers.append(say(instance, message.content))
    return answers


@pytest.mark.parametrize("name", ["library", "retail"])
def test_an_episode_through_the_class_is_the_same_episode(name):
    domain = DOMAINS[name]
    instance = make_rollout_class(domain, ScriptedUser(), seed=3)()
    rewards = []
    for task in domain.split()[:8]:
        episode = drive(Episode(domain, task, seed=3), ScriptedAgent(), ScriptedUser())
        opening = instance.reset(**row(task))
        answers = replayed(instance, episode)
        assert instance.episode.messages == episode.messages
        assert instance.episode.db.changes() == episode.db.changes()
        assert instance.episode.ending == episode.ending
        assert instance.get_reward() == evaluate(domain, record(episode)).reward
        heard = [message.content for message in episode.messages if message.role in ("user", "tool")]
        assert [opening, *answers] == [*heard[:-1], f"{heard[-1]}\n{OVER}"]
        rewards.append(instance.get_reward())
    assert 1.0 in rewards


def test_reset_returns_the_users_first_words():
    assert make_rollout_class(LIBRARY, Brief())().reset(**row(TASK)) == TASK.scenario.goal


def test_the_users_stop_token_ends_the_episode_and_every_tool_says_so():
    instance = started()
    assert finish(instance) == f"{GOODBYE}\n{OVER}"
    messages = len(instance.episode.messages)
    assert (say(instance, "Bye."), instance.find_loans(member_id="M7"), instance.renew_loan(loan_id="L2")) == (OVER,) * 3
    assert len(instance.episode.messages) == messages
    assert instance.episode.ending == "user_stop"
    assert instance.get_reward() == 1.0


def test_an_episode_that_the_user_has_not_ended_is_truncated_without_reward():
    instance = started()
    instance.renew_loan(loan_id="L1")
    assert instance.get_reward() == 0.0
    assert instance.episode.truncated
    assert instance.get_reward() == 0.0


def test_wrong_arguments_are_the_agents_mistake_and_count_as_errors():
    instance = started(max_errors=3)
    assert instance.renew_loan(loan=1).startswith("Error: argument 'loan_id' is missing; unknown argument 'loan'; renew_loan takes")
    assert say(instance, 7) == "Error: argument 'message' must be a valid string, found 7; message_user takes message: string"
    assert say(instance, " ").endswith(f"the message is empty; write to the user or call a tool\n{OVER}")
    assert instance.episode.ending == "max_errors"


def test_calls_are_counted_as_steps():
    instance = started(max_steps=2)
    assert OVER not in instance.find_loans(member_id="M7")
    assert instance.find_loans(member_id="M7").endswith(OVER)
    assert instance.episode.ending == "max_steps"


def test_text_that_no_file_can_hold_is_cleaned():
    instance = started()
    say(instance, "a\ud800b")
    instance.find_loans(member_id="\ud800")
    assert [message.content for message in instance.episode.spoken[-2:-1]] == ["a?b"]
    record(instance.episode).model_dump_json().encode()


def test_reset_clears_everything():
    instance = started()
    finish(instance)
    instance.reset(**row(TASK))
    assert instance.get_reward() == 0.0
    assert instance.episode.db.changes() == Episode(LIBRARY, TASK).db.changes()
    instance.reset(**row(TASK))
    finish(instance)
    assert instance.get_reward() == 1.0


def test_instances_share_nothing():
    kind = make_rollout_class(LIBRARY, Brief())
    one, other = kind(), kind()
    one.reset(**row(TASK))
    other.reset(**row(TASK))
    finish(one)
    assert (one.get_reward(), other.get_reward()) == (1.0, 0.0)


def test_an_asynchronous_user_is_awaited():
    class Later(Brief):
        async def reply(self, view):
            return Brief().reply(view)

    instance = started(user=Later())
    finish(instance)
    assert instance.get_reward() == 1.0


def test_rows_without_a_task_or_with_one_of_another_domain_are_refused():
    instance = make_rollout_class(LIBRARY, Brief())()
    with pytest.raises(TaskError, match=r"no column 'task', found prompt; make the dataset with to_dataset\(\)"):
        instance.reset(prompt=[])
    with pytest.raises(TaskError, match="for domain 'retail', trained on 'library'"):
        instance.reset(**row(DOMAINS["retail"].split()[0]))


# what goes wrong


@tool
def break_down(db: Any) -> str:
    """Crash."""
    raise ZeroDivisionError("a bug of the domain")


class Failing(Brief):
    """A user that fails from its second turn on."""

    failure: Exception = ModelError("the user's model is down")

    def reply(self, view):
        if any(message.role == "user" for message in view.messages):
            raise self.failure
        return super().reply(view)


def test_a_crash_of_a_tool_is_no_observation_and_comes_out_of_get_reward():
    instance = started(replace(LIBRARY, tools=(*LIBRARY.tools, break_down)))
    assert instance.break_down() == OVER
    assert instance.find_loans(member_id="M7") == OVER
    with pytest.raises(DomainError, match=r"tool break_down crashed on \{\}: ZeroDivisionError: a bug of the domain"):
        instance.get_reward()
    instance.reset(**row(TASK))
    assert OVER not in instance.find_loans(member_id="M7")
    assert instance.get_reward() == 0.0


def test_a_crash_of_the_user_comes_out_of_get_reward():
    class Broken(Failing):
        failure = KeyError("a bug of the user")

    instance = started(user=Broken())
    assert say(instance, "May I have your card number?") == OVER
    with pytest.raises(KeyError, match="a bug of the user"):
        instance.get_reward()


def test_a_user_whose_model_is_down_leaves_no_reward():
    instance = started(user=Failing())
    assert say(instance, "May I have your card number?") == OVER
    assert instance.renew_loan(loan_id="L1") == OVER
    assert instance.get_reward() is None
    assert instance.error == "ModelError: the user's model is down"
    instance.reset(**row(TASK))
    assert instance.error is None
    assert instance.get_reward() == 0.0


def test_a_user_who_cannot_even_begin_leaves_no_reward():
    class Silent(Brief):
        def reply(self, view):
            raise ModelError("the user's model is down")

    instance = make_rollout_class(LIBRARY, Silent())()
    assert instance.reset(**row(TASK)) == ""
    assert instance.find_loans(member_id="M7") == OVER
    assert instance.get_reward() is None


# a training step of TRL's own


DIALOGUE = (
    ("message_user", {"message": "May I have your card number?"}),
    ("renew_loan", {"loan_id": "L1"}),
    ("message_user", {"message": "It is renewed for two weeks."}),
)


def dialogue(domain=LIBRARY):
    """The library's task won in TRL's messages."""
    instance = make_rollout_class(domain, Brief())()
    prompt = to_dataset(domain, [TASK])[0]["prompt"]
    messages = [*prompt[:-1], {"role": "user", "content": instance.reset(**row(TASK))}]
    for name, arguments in DIALOGUE:
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "name": name, "content": getattr(instance, name)(**arguments)})
    assert instance.get_reward() == 1.0
    return [*messages, {"role": "assistant", "content": "Goodbye."}], list(tools_of(instance).values())


@pytest.fixture(scope="module")
def drilled():
    """A tiny random Llama that has learned one won dialogue almost by heart, with its tokenizer."""
    set_threads(1)
    from trl.chat_template_utils import qwen2_5_chat_template

    from sentinel_train.solver import SolverConfig, make_model
    from sentinel_train.tokenizer import make_tokenizer

    messages, tools = dialogue()
    blank = make_tokenizer([], [])
    blank.chat_template = qwen2_5_chat_template
    tokenizer = make_tokenizer([blank.apply_chat_template(messages, tools=tools, tokenize=False)], ["L1", "M7"], least=1)
    tokenizer.chat_template = qwen2_5_chat_template
    ids = tokenizer.apply_chat_template(messages, tools=tools, return_dict=False)
    model = make_model(tokenizer, SolverConfig(hidden=32, inner=64, layers=2, heads=2, positions=1024))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch = torch.tensor([ids])
    for _ in range(200):
        loss = model(input_ids=batch, labels=batch).loss
        if loss < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, tokenizer


def trl_trainer(drilled, folder, domain=LIBRARY, user=None, **settings):
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = drilled
    args = {
        "output_dir": str(folder),
        "max_steps": 1,
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "max_completion_length": 300,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return GRPOTrainer(
        model=copy.deepcopy(model),
        args=GRPOConfig(**args | settings),
        train_dataset=to_dataset(domain, [TASK] * 2),
        processing_class=copy.deepcopy(tokenizer),
        environment_factory=make_rollout_class(domain, user or Brief()),
    )


def test_a_training_step_shows_the_tools_and_logs_the_reward(drilled, tmp_path):
    trainer = trl_trainer(drilled, tmp_path)
    shown = []
    generate = trainer._generate_single_turn
    trainer._generate_single_turn = lambda ids, *rest, **named: (shown.append(list(ids)), generate(ids, *rest, **named))[1]
    trainer.train()
    prompt = drilled[1].decode(shown[0][0])
    assert all(f'"name": "{name}"' in prompt for name in ("find_loans", "renew_loan", "message_user"))
    assert LIBRARY.policy in prompt
    assert prompt.endswith(f"<|im_start|>user\n{TASK.scenario.goal}<|im_end|>\n<|im_start|>assistant\n")
    log = trainer.state.log_history[0]
    assert log["rewards/LibraryRollout/mean"] == log["reward"] > 0
    assert log["tools/call_frequency"] > 1
    rewards = [environment.get_reward() for environment in trainer.environments]
    assert sum(rewards) / 4 == log["reward"]
    assert {environment.episode.ending for environment in trainer.environments} >= {"user_stop"}


def test_trl_leaves_a_rollout_whose_user_was_down_out_of_its_group(drilled, tmp_path):
    openings = itertools.count()

    class Flaky(Brief):
        def reply(self, view):
            if len(view.messages) == 1 and next(openings) == 1:
                raise ModelError("the user's model is down")
            return super().reply(view)

    trainer = trl_trainer(drilled, tmp_path, user=Flaky())
    trainer.train()
    rewards = [environment.get_reward() for environment in trainer.environments]
    assert rewards[1] is None
    others = [reward for reward in rewards if reward is not None]
    assert trainer.state.log_history[0]["reward"] == pytest.approx(sum(others) / 3)
    assert trainer._logs["advantages"][1] == 0.0


def test_a_crash_stops_the_training(drilled, tmp_path):
    def renew_loan(db: Any, loan_id: str) -> str:
        """Renew a loan for two weeks.

        Args:
            loan_id: The loan, such as "L1".
        """
        raise ZeroDivisionError("a bug of the domain")

    broken = replace(LIBRARY, tools=(LIBRARY.tools[0], tool(renew_loan)))
    with pytest.raises(DomainError, match="tool renew_loan crashed on"):
        trl_trainer(drilled, tmp_path, broken).train()
