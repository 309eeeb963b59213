"""Coverage: how often a fit's 95 % intervals hold what was hidden.

One measurement is one hidden robot under one noise: a log of it, a fit, and what the fit says of
each parameter. A fit that refuses is a measurement too, with `refused` 1.
"""

from __future__ import annotations

import math

from isthmus.identification.fit import NOT_IDENTIFIED, Fit, FittedParameter
from isthmus.identification.identify import identify
from isthmus.papers.identification.hidden_robots import HiddenRobot, draw_robot, record_robot
from isthmus.types import BadValue


def measure_coverage(seed: int, task: str, transitions: int, noise: float) -> dict[str, float]:
    """Return what a fit says of a hidden robot, by parameter.

    NAME_held        1 where the interval holds the truth
    NAME_width       the interval's half width, in e-folds
    NAME_error       log of the value over the truth
    NAME_identified  1 where the verdict is not "not identified"
    NAME_tellable    0 where no log of this robot can tell the parameter
    """
    robot = draw_robot(task, seed)
    log = record_robot(robot, transitions, noise, seed)
    try:
        fit = identify(task, log, list(robot.factors), seed=seed)
    except BadValue:
        return {"refused": 1.0, "parameters": float(len(robot.factors))}
    measures = {
        "refused": 0.0,
        "parameters": float(len(robot.factors)),
        "explained": fit.explained,
        "horizon": float(fit.horizon),
        "delay": float(fit.action_delay + fit.observation_delay),
    }
    return measures | _measure_parameters(fit, robot)


def _measure_parameters(fit: Fit, robot: HiddenRobot) -> dict[str, float]:
    measures: dict[str, float] = {}
    for parameter in fit.parameters:
        name = parameter.name
        truth = parameter.default * robot.factors[name]
        measures[f"{name}_held"] = float(parameter.low <= truth <= parameter.high)
        measures[f"{name}_width"] = _measure_width(parameter)
        measures[f"{name}_error"] = math.log(parameter.value / truth)
        measures[f"{name}_identified"] = float(parameter.verdict != NOT_IDENTIFIED)
        measures[f"{name}_tellable"] = float(name not in robot.untold)
    return measures


def _measure_width(parameter: FittedParameter) -> float:
    low, high = parameter.low + parameter.offset, parameter.high + parameter.offset
    return 0.5 * math.log(high / low)
