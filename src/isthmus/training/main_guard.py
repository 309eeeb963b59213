"""Scripts that begin worker processes need `if __name__ == "__main__":` around what they do."""

from __future__ import annotations

import ast
import linecache
import sys

from isthmus.types import BadValue


def check_main_guard() -> None:
    """Raise BadValue where a script begins workers outside of `if __name__ == "__main__":`.

    Each worker imports the script first, would come to the same line, and would begin workers of
    its own.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
            break
    else:
        return  # not in a script's own lines: a thread, or a function of a server
    path, main = frame.f_code.co_filename, vars(sys.modules["__main__"])
    spec = main.get("__spec__")
    if spec is not None and spec.name.endswith(".__main__"):
        return  # `python -m package`: workers do not import that again
    if main.get("__file__") is None or not _lacks_guard(path, frame.f_lineno):
        return
    raise BadValue(
        f"{path}:{frame.f_lineno} begins worker processes, which import the script first: put what "
        'it does under if __name__ == "__main__":'
    )


def _lacks_guard(path: str, line: int) -> bool:
    """Whether the lines of a script are known, and this one is under no condition that asks for
    __name__.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and _is_guard_of(node, line):
            return False
    return bool(tree.body)


def _is_guard_of(condition: ast.If, line: int) -> bool:
    last = condition.end_lineno or line
    return "__name__" in ast.dump(condition.test) and condition.lineno <= line <= last
