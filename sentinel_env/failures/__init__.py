"""From failed trajectories to failure patterns, without a model.

`attribute` says why one trajectory failed, where, and whose fault it was; `find_failures` groups what it found by cause and counts it
against the opportunities there were.
"""

from .attribution import attribute
from .findings import CAUSES, CONDUCT, LABELS, Attribution, Cause, Conduct, Evidence, Fault, Finding, Label, Side, Sublabel
from .memory import Attempt, Memory
from .mining import FailureReport, find_failures, mine
from .patterns import GENERAL, FailurePattern, check_pattern, general_pattern, load_patterns, save_patterns
from .writes import Write, executed_writes

__all__ = [
    "CAUSES",
    "CONDUCT",
    "GENERAL",
    "LABELS",
    "Attempt",
    "Attribution",
    "Cause",
    "Conduct",
    "Evidence",
    "FailurePattern",
    "FailureReport",
    "Fault",
    "Finding",
    "Label",
    "Memory",
    "Side",
    "Sublabel",
    "Write",
    "attribute",
    "check_pattern",
    "executed_writes",
    "find_failures",
    "general_pattern",
    "load_patterns",
    "mine",
    "save_patterns",
]
