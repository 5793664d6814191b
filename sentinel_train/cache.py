"""A key-value cache for many dialogues that grow by uneven turns: room to append into, and holes squeezed out between turns."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc, unused-ignore]
    """One model layer's keys and values. (row, head, column, dimension)

    transformers' own layer copies everything it holds for each token that is appended; this one doubles its room when it is full.
    """

    keys: Any
    values: Any
    _room: tuple[Any, Any] | None = None

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append columns and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        needed = used + key_states.shape[-2]
        if self._room is None or needed > self._room[0].shape[-2]:
            self._room = self._widened(key_states, max(needed, 2 * used)), self._widened(value_states, max(needed, 2 * used))
            if used:
                self._room[0][:, :, :used] = self.keys
                self._room[1][:, :, :used] = self.values
        self._room[0][:, :, used:needed] = key_states
        self._room[1][:, :, used:needed] = value_states
        self.keys, self.values = self._room[0][:, :, :needed], self._room[1][:, :, :needed]
        return self.keys, self.values

    @staticmethod
    def _widened(like: Any, columns: int) -> Any:
        rows, heads, _, width = like.shape
        return like.new_empty((rows, heads, columns, width))

    def pick(self, rows: Any, columns: Any) -> None:
        """Keep some rows (row), and of each the given columns (row, column)."""
        self.keys, self.values = _pick(self.keys, rows, columns), _pick(self.values, rows, columns)
        self._room = None


def _pick(states: Any, rows: Any, columns: Any) -> Any:
    heads, width = states.shape[1], states.shape[3]
    return states[rows].gather(2, columns[:, None, :, None].expand(-1, heads, -1, width))


class DialogueCache(DynamicCache):  # type: ignore[misc, unused-ignore]
    """The cache of all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = RoomyLayer

    def pick(self, rows: Any, columns: Any) -> None:
        """Keep some rows, and of each some columns, in every layer."""
        for layer in self.layers:
            layer.pick(rows, columns)
