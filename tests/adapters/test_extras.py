"""An adapter without its framework says which extra is missing."""

import importlib
import sys

import pytest

import sentinel_env.adapters


@pytest.mark.parametrize(
    ("adapter", "framework", "extra"),
    [
        ("openenv", "openenv", "openenv"),
        ("skyrl", "skyrl_gym", "skyrl"),
        ("nemo_gym", "aiohttp", "nemo-gym"),
        ("verifiers", "verifiers", "verifiers"),
    ],
)
def test_an_adapter_without_its_framework_names_the_extra(monkeypatch, adapter, framework, extra):
    monkeypatch.setitem(sys.modules, framework, None)
    monkeypatch.delitem(sys.modules, f"sentinel_env.adapters.{adapter}", raising=False)
    for name in [name for name in sys.modules if name.startswith(f"{framework}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sentinel_env.adapters, adapter, raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"sentinel_env.adapters.{adapter}")
    assert str(caught.value) == f"this adapter needs {framework}, which is not installed; pip install 'sentinel-env[{extra}]'"
    assert caught.value.name == framework
