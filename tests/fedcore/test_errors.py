"""The error tree is the one that its docstring draws."""

import inspect
import re

from fedcore import errors


def test_the_drawn_tree_is_the_real_one() -> None:
    parents, above = dict[str, str](), {0: "FedcoreError"}
    for indent, name in re.findall(r"^( *[│ ]*)[├└]── (\w+)", str(errors.__doc__), re.MULTILINE):
        depth = len(indent) // 4
        parents[name] = above[depth - 1]
        above[depth] = name
    real = {n: c.__bases__[0].__name__ for n, c in inspect.getmembers(errors, inspect.isclass) if n != "FedcoreError"}
    assert parents == real
