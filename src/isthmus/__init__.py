"""Isthmus: sim-to-real reinforcement learning, from a source that you can simulate to a target that
you can hardly touch.

    problem = isthmus.problem("half_cheetah/gravity=x2")
    run = isthmus.train("domain_randomization", problem, seed=0)
    isthmus.evaluate(run.policy, problem.target, episodes=100)
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from isthmus.jax_options import set_options_on_import

if TYPE_CHECKING:
    from isthmus.audit.audit import audit
    from isthmus.deploy.cross import cross
    from isthmus.deploy.policy import load_policy
    from isthmus.deploy.runner import Guards, Runner
    from isthmus.domains.domain import Domain
    from isthmus.domains.effect_chain import Effect
    from isthmus.domains.effects import register_effect
    from isthmus.domains.parse import parse_domain
    from isthmus.evaluation.evaluate import evaluate
    from isthmus.evaluation.explain import explain
    from isthmus.evaluation.landscape import landscape
    from isthmus.identification.fit import Fit
    from isthmus.identification.identify import identify
    from isthmus.methods.registry import register_learner, register_method
    from isthmus.physics.engine import Start, register_engine
    from isthmus.problems.problem import Access, Budget, Problem
    from isthmus.problems.problem import make_problem as problem
    from isthmus.studies.compare import compare
    from isthmus.tasks.task import Task, control_cost, register
    from isthmus.training.collect import log_target as collect_log
    from isthmus.training.executor import Processes
    from isthmus.training.run import Run
    from isthmus.training.train import resume, train
    from isthmus.types import Decision, Episodes, IsthmusError, Spaces, Transition

# XLA's results depend on the number of CPUs it sees; only this fixes it, and only before the first
# computation.
os.environ.setdefault("NPROC", "1")
# On one CPU there is nothing for XLA to do at once, and its waiting for threads takes longer than a
# policy's call.
_ONE_BY_ONE = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
if _ONE_BY_ONE not in os.environ.get("XLA_FLAGS", ""):  # as in a process that another of ours began
    os.environ["XLA_FLAGS"] = f"{_ONE_BY_ONE} {os.environ.get('XLA_FLAGS', '')}".strip()
set_options_on_import()

_ATTRIBUTES = {
    # A problem and its domains.
    "problem": "isthmus.problems.problem:make_problem",
    "Problem": "isthmus.problems.problem:Problem",
    "Access": "isthmus.problems.problem:Access",
    "Budget": "isthmus.problems.problem:Budget",
    "Domain": "isthmus.domains.domain:Domain",
    "parse_domain": "isthmus.domains.parse:parse_domain",
    # What is done with it.
    "audit": "isthmus.audit.audit:audit",
    "collect_log": "isthmus.training.collect:log_target",
    "compare": "isthmus.studies.compare:compare",
    "cross": "isthmus.deploy.cross:cross",
    "Fit": "isthmus.identification.fit:Fit",
    "identify": "isthmus.identification.identify:identify",
    "evaluate": "isthmus.evaluation.evaluate:evaluate",
    "explain": "isthmus.evaluation.explain:explain",
    "landscape": "isthmus.evaluation.landscape:landscape",
    "load_policy": "isthmus.deploy.policy:load_policy",
    "Processes": "isthmus.training.executor:Processes",
    "resume": "isthmus.training.train:resume",
    "Runner": "isthmus.deploy.runner:Runner",
    "Guards": "isthmus.deploy.runner:Guards",
    "Run": "isthmus.training.run:Run",
    "train": "isthmus.training.train:train",
    # A task, effect, engine, learner or method of one's own.
    "control_cost": "isthmus.tasks.task:control_cost",
    "Effect": "isthmus.domains.effect_chain:Effect",
    "register": "isthmus.tasks.task:register",
    "register_effect": "isthmus.domains.effects:register_effect",
    "register_engine": "isthmus.physics.engine:register_engine",
    "register_learner": "isthmus.methods.registry:register_learner",
    "register_method": "isthmus.methods.registry:register_method",
    "Start": "isthmus.physics.engine:Start",
    "Task": "isthmus.tasks.task:Task",
    # What the parts hand to each other.
    "Decision": "isthmus.types:Decision",
    "Episodes": "isthmus.types:Episodes",
    "IsthmusError": "isthmus.types:IsthmusError",
    "Spaces": "isthmus.types:Spaces",
    "Transition": "isthmus.types:Transition",
}
__all__ = [
    "Access",
    "Budget",
    "Decision",
    "Domain",
    "Effect",
    "Episodes",
    "Fit",
    "Guards",
    "IsthmusError",
    "Problem",
    "Processes",
    "Run",
    "Runner",
    "Spaces",
    "Start",
    "Task",
    "Transition",
    "audit",
    "collect_log",
    "compare",
    "control_cost",
    "cross",
    "evaluate",
    "explain",
    "identify",
    "landscape",
    "load_policy",
    "parse_domain",
    "problem",
    "register",
    "register_effect",
    "register_engine",
    "register_learner",
    "register_method",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported when it is first used: jax takes seconds.

    Raises AttributeError where there is none.
    """
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
    module, _, attribute = _ATTRIBUTES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Package(ModuleType):
    """This package; a public name stays what it is when a subpackage of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _ATTRIBUTES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
