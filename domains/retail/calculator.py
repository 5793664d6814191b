"""Arithmetic for an agent: Python's own grammar and rounding, on four operators, powers and parentheses, without `eval`.

The text is parsed by `ast` and walked here; nothing in it can name anything. Length and the size of a power are bounded, so that
no expression can hang an episode.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from sentinel_env import ToolError

MAX_CHARACTERS = 2_000
MAX_POWER_BITS = 65_536
_ALLOWED = frozenset("0123456789+-*/(). ")


def evaluate(expression: str) -> str:
    """The value of an arithmetic expression, rounded to two decimals, as Python prints a float.

    Raises:
        ToolError: A character is not allowed, it is no expression, it divides by zero or it is too large.

    >>> evaluate("(1 + 2) * 3"), evaluate("0.1 + 0.2"), evaluate("7 // 2")
    ('9.0', '0.3', '3.0')
    >>> evaluate("9**9**9")
    Traceback (most recent call last):
    ...
    sentinel_env.errors.ToolError: the power is too large
    """
    if not all(character in _ALLOWED for character in expression):
        raise ToolError("Invalid characters in expression")
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"the expression has {len(expression):,} characters; at most {MAX_CHARACTERS:,} are read")
    try:
        tree = ast.parse(expression.lstrip(" "), filename="<string>", mode="eval")
        return str(round(float(_value(tree.body)), 2))
    except (RecursionError, MemoryError):
        raise ToolError("the expression is nested too deeply") from None
    except (SyntaxError, ArithmeticError, TypeError, ValueError) as error:
        raise ToolError(str(error)) from None


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > MAX_POWER_BITS:
        raise ToolError("the power is too large")
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}


def _value(node: ast.expr) -> Any:
    chain = []
    while isinstance(node, ast.BinOp):  # a long sum is deep on its left side
        chain.append(node)
        node = node.left
    value = _operand(node)
    for operation in reversed(chain):
        value = _BINARY[type(operation.op)](value, _value(operation.right))
    return value


def _operand(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else +value
    if isinstance(node, ast.Tuple):  # "()"
        return ()
    if isinstance(node, ast.Call):  # "2(3)"
        raise ToolError(f"'{type(_value(node.func)).__name__}' object is not callable")
    raise ToolError("invalid syntax")
