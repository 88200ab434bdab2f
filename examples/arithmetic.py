"""The calculator that the agents of the examples are given: a tool whose answer nobody has to take on trust."""

from __future__ import annotations

import ast
import operator

from langchain_core.tools import tool

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
LONGEST = 100
"""Characters of an expression: who asks may be anybody, and ask for hours of work."""


@tool
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    if len(expression) > LONGEST:
        return "That is too long to be worked out."
    try:
        return f"{value(ast.parse(expression.strip(), mode='eval').body):.12g}"
    except (SyntaxError, ValueError, ArithmeticError) as exc:  # for the model to hear, rather than an end of the run
        return f"I cannot work that out: {exc.args[0]}."


def value(node: ast.expr) -> float:
    """What an expression makes. Numbers, the four operations and signs are all there is to it."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            made: float = OPERATORS[type(op)](value(left), value(right))
            return made
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value(operand)
        case _:
            raise ValueError("it is not arithmetic")
