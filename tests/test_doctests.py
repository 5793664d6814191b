"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import pkgutil

import pytest
import sentinel_domains

import sentinel_env


def modules():
    for package in (sentinel_env, sentinel_domains):
        yield package.__name__
        yield from (
            module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.") if "__main__" not in module.name
        )


@pytest.mark.parametrize("name", list(modules()))
def test_examples_run(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:  # an extra is not installed
        pytest.skip(str(error))
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert results.failed == 0
