"""Which split of our data a customer belongs to: no two splits share one."""

from __future__ import annotations

import hashlib


def split_of(user_id: str) -> str:
    """The split whose tasks a user may appear in: 60 % train, 10 % dev, 30 % test."""
    place = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:4]) % 10
    return "train" if place < 6 else "dev" if place < 7 else "test"
