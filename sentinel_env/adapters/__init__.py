"""Adapters: our episodes inside other frameworks, one file and one extra each.

    endpoint        `run_episode`, for anything that serves a model behind a base URL (AReaL, rllm, gateways, a harness of your own)
    openenv         an OpenEnv server
    skyrl           a SkyRL-gym environment
    nemo_gym        a NeMo Gym resources server
    verifiers       a verifiers taskset
    mcp             a domain's tools for any MCP client

`sentinel_train.facade` is the one for TRL. What they share: `Source` says which episodes there are, in plain settings that any framework's
configuration can hold; a `Seat` is the agent's place at one of them, with the user answering by itself. Nothing here imports a framework,
and each adapter imports its own alone.
"""
