"""The tiny Solver's tokenizer is made the same way in every process."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("transformers", reason="the train extra is not installed")

MAKE = """
import hashlib
from sentinel_env import load_domain
from sentinel_train.tokenizer import make_tokenizer, words_of
domain = load_domain("retail", compact=True, users=20, orders=40, products=4)
texts = [domain.render(order) for order in domain.base.orders.values()]
tokenizer = make_tokenizer(texts, words_of(domain), fixed=["gift_card_", "credit_card_"])
print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


def test_two_processes_make_the_same_tokenizer():
    made = {
        subprocess.run(
            [sys.executable, "-c", MAKE], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


def test_an_id_of_three_digits_is_one_token():
    from sentinel_train.tokenizer import make_tokenizer

    tokenizer = make_tokenizer(["#W123 pending"], ["pending"])
    assert tokenizer.convert_ids_to_tokens(tokenizer("#W123").input_ids)[-1] == "123"
    assert tokenizer.decode(tokenizer("#W123 pending, $4.50").input_ids) == "#W123 pending, $4.50"
