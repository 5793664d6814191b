"""What verifiers imports by name: the taskset and the environment, as anyone's own module would export them."""

from sentinel_env.adapters.verifiers import SentinelEnv, SentinelTaskset

__all__ = ["SentinelEnv", "SentinelTaskset"]
