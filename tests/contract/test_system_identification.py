"""`system_identification` learns in what it fitted: of a ball, whose hidden dynamics are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.learning.policies import UniformBehaviour
from isthmus.logs.record import record_log
from isthmus.logs.write import write_log
from isthmus.methods import registry
from isthmus.methods.method import State
from isthmus.methods.system_identification import change_source, read_law
from isthmus.problems.problem import Problem, make_problem
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue

TARGET = "ball/motor_strength=x0.5,damping=x3"
HIDDEN = {"motor_strength": 0.5, "damping": 3.0}
SMALL = {"learner.worlds": 8, "learner.steps": 16, "learner.epochs": 1, "learner.minibatch": 64}
ONLINE = {"interval": 256, "transitions": 400}


def build(**changes: Any) -> Any:
    settings = {"parameters": "motor_strength,damping", "max_delay": 0, **SMALL, **changes}
    return registry.build("system_identification", settings)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    target = parse_domain(TARGET)
    path = tmp_path_factory.mktemp("log") / "log.npz"
    behaviour = UniformBehaviour(target.spaces.low, target.spaces.high)
    write_log(Path(path), record_log(target, behaviour, 600), {}, target)
    return make_problem(TARGET, data=str(path))


def drawn(problem: Problem, s: State) -> dict[str, np.ndarray]:
    """The dynamics in which the policy learns now."""
    domain = change_source(problem.source, read_law(s.learner.law))
    return dict(zip(domain.names, s.worlds.source.parameters.T, strict=True))


def test_it_learns_in_what_the_log_tells(logged: Problem) -> None:
    method = build()
    s, metrics = method.step(logged, method.init(logged, 0))
    assert metrics["fits"] == 1
    for name, values in drawn(logged, s).items():
        np.testing.assert_allclose(values, HIDDEN[name], rtol=1e-3)
        assert len(np.unique(values)) == len(values), "drawn for each world"


def test_online_it_fits_what_it_collects_and_counts_it() -> None:
    problem = make_problem(TARGET, access="online")
    method, plain = build(**ONLINE), registry.build("source_only", SMALL)
    s, alone = method.init(problem, 0), plain.init(problem, 0)
    assert int(s.usage.transitions) == 0
    s, _ = method.step(problem, s)
    alone, _ = plain.step(problem, alone)
    assert digest(s.learner.learner) == digest(alone.learner), "before a fit it is source_only"
    s, metrics = method.step(problem, s)
    assert metrics["fits"] == 1 and int(s.usage.transitions) == 400
    for name, values in drawn(problem, s).items():
        np.testing.assert_allclose(values, HIDDEN[name], rtol=1e-3)
    for _ in range(2):
        s, metrics = method.step(problem, s)
    assert metrics["fits"] == 2 and int(s.usage.transitions) == 800


def test_a_fit_that_the_budget_does_not_allow_is_left_out() -> None:
    problem = make_problem(TARGET, access="online", budget=500)
    method = build(**ONLINE)
    s, metrics = method.init(problem, 0), {}
    for _ in range(6):
        s, metrics = method.step(problem, s)
    assert metrics["fits"] == 1 and int(s.usage.transitions) == 400


def test_what_cannot_be_is_refused_before_anything_moves(logged: Problem) -> None:
    with pytest.raises(BadValue, match="privileged"):
        build(**{"learner.privileged": True})
    online = make_problem(TARGET, access="online")
    for problem in (logged, online):
        with pytest.raises(BadValue, match="no parameter matches 'dampin'"):
            build(parameters="dampin").init(problem, 0)
