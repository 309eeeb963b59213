"""Isthmus: sim-to-real reinforcement learning, from a source you can simulate to a target you can
hardly touch.

problem = isthmus.problem("half_cheetah/gravity=x2")
run = isthmus.train("domain_randomization", problem, seed=0)
isthmus.evaluate(run.policy, problem.target, episodes=100)
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.audit.audit import audit
    from isthmus.domains.domain import Domain
    from isthmus.evaluation.evaluate import evaluate
    from isthmus.evaluation.landscape import landscape
    from isthmus.problems.problem import Problem
    from isthmus.problems.problem import make_problem as problem
    from isthmus.training.run import Run
    from isthmus.training.train import resume, train
    from isthmus.types import IsthmusError

# XLA's results depend on the number of CPUs it sees; only this fixes it, and only before the first
# computation.
os.environ.setdefault("NPROC", "1")
# On one CPU there is nothing for XLA to do at once, and its waiting for threads takes longer than a
# policy's call.
_ONE_BY_ONE = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
if _ONE_BY_ONE not in os.environ.get("XLA_FLAGS", ""):  # as in a process that another of ours began
    os.environ["XLA_FLAGS"] = f"{_ONE_BY_ONE} {os.environ.get('XLA_FLAGS', '')}".strip()

_WHERE = {
    "problem": "isthmus.problems.problem:make_problem",
    "Domain": "isthmus.domains.domain:Domain",
    "Problem": "isthmus.problems.problem:Problem",
    "audit": "isthmus.audit.audit:audit",
    "train": "isthmus.training.train:train",
    "resume": "isthmus.training.train:resume",
    "Run": "isthmus.training.run:Run",
    "evaluate": "isthmus.evaluation.evaluate:evaluate",
    "landscape": "isthmus.evaluation.landscape:landscape",
    "IsthmusError": "isthmus.types:IsthmusError",
}
__all__ = [
    "Domain",
    "IsthmusError",
    "Problem",
    "Run",
    "audit",
    "evaluate",
    "landscape",
    "problem",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: jax takes seconds."""
    if name not in _WHERE:
        raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
