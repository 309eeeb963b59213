"""How each class of policies becomes a graph: a table that a new class joins by one function.

@register_export(MyPolicy)
def export_my_policy(policy, graph, observation):
return graph.mlp(policy.actor, observation)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from isthmus.deploy.graph import PolicyGraph
from isthmus.learning.estimator import EstimatingPolicy
from isthmus.learning.networks import GRU, LSTM
from isthmus.learning.normalization import Normalizer
from isthmus.learning.policies import GaussianPolicy, SquashedPolicy
from isthmus.learning.recurrent_ppo import RecurrentPolicy
from isthmus.methods.dap_inverse import TranslatedPolicy
from isthmus.types import BadValue

Exporter = Callable[[Any, PolicyGraph, str], str]
"""(policy, graph, observation [N, O]) -> action [N, A], the names of values of the graph."""
E = TypeVar("E", bound=Exporter)

FLOAT = 1  # ONNX's number of float32

EXPORTERS: dict[type, Exporter] = {}


def register_export(policy: type) -> Callable[[E], E]:
    """Return a decorator of the function that adds a policy of that class to a graph."""

    def register(exporter: E) -> E:
        EXPORTERS[policy] = exporter
        return exporter

    return register


def add_policy(policy: Any, graph: PolicyGraph, observation: str) -> str:
    """Add a policy to a graph; return the name of its action [N, A].

    Raises BadValue for a policy of a class that no function is registered for.
    """
    kind = type(policy)
    if kind not in EXPORTERS:
        raise BadValue(
            f"a policy of the class {kind.__name__} cannot be exported: write a function for it, "
            f"below @register_export({kind.__name__}) of isthmus.deploy.exporters"
        )
    return EXPORTERS[kind](policy, graph, observation)


@register_export(GaussianPolicy)
def export_gaussian(policy: GaussianPolicy, graph: PolicyGraph, observation: str) -> str:
    """Add normalizer, network and clip."""
    mean = graph.mlp(policy.actor, add_normalizer(policy.normalizer, graph, observation))
    return graph.clip(mean, policy.low, policy.high)


@register_export(SquashedPolicy)
def export_squashed(policy: SquashedPolicy, graph: PolicyGraph, observation: str) -> str:
    """Add networks, tanh and scale."""
    return add_scale(policy, graph, add_unit_action(policy, graph, observation))


@register_export(TranslatedPolicy)
def export_translated(policy: TranslatedPolicy, graph: PolicyGraph, observation: str) -> str:
    """Add the source's policy, what is added to its action, and scale."""
    unit = add_unit_action(policy.source, graph, observation)
    inputs = graph.add("Concat", observation, unit, axis=-1)
    change = graph.mlp(policy.translator, inputs, "Relu")
    return add_scale(policy.source, graph, graph.add("Add", unit, change))


@register_export(RecurrentPolicy)
def export_recurrent(policy: RecurrentPolicy, graph: PolicyGraph, observation: str) -> str:
    """Add normalizer, cell, network and clip; the cell's memory lasts for a task."""
    begin, first = np.asarray(policy.begin, np.float32), None
    if begin.any():
        first = graph.constant(begin[None])
    before = graph.remember("cell", begin.size, "task", first)
    x = add_normalizer(policy.normalizer, graph, observation)
    cell = policy.actor.cell
    after = _add_lstm(cell, graph, before, x) if isinstance(cell, LSTM) else None
    if isinstance(cell, GRU):
        after = _add_gru(cell, graph, before, x)
    if after is None:
        raise BadValue(f"a cell of the class {type(cell).__name__} cannot be exported")
    graph.keep("cell", after)
    output = graph.columns(after, 0, np.shape(cell.back)[0])
    return graph.clip(graph.mlp(policy.actor.head, output), policy.low, policy.high)


@register_export(EstimatingPolicy)
def export_estimating(policy: EstimatingPolicy, graph: PolicyGraph, observation: str) -> str:
    """Add the estimator over the last pairs of observation and action, and the policy that is told.

    The pairs and their number last for a task.
    """
    length, size = np.shape(policy.empty.pairs)
    pairs, age = graph.remember("pairs", length * size, "task"), graph.remember("age", 1, "task")
    inputs = _add_estimator_inputs(policy, graph, observation, pairs, age)
    limit = float(policy.estimator.limit)
    estimate = graph.clip(graph.mlp(policy.estimator.network, inputs, "Relu"), -limit, limit)
    told = graph.add("Concat", observation, estimate, axis=-1)
    action = add_policy(policy.policy, graph, told)
    kept = graph.columns(pairs, size, length * size)
    graph.keep("pairs", graph.add("Concat", kept, observation, action, axis=-1))
    graph.keep("age", graph.add("Min", graph.add("Add", age, 1.0), float(length)))
    return action


def _add_estimator_inputs(
    policy: EstimatingPolicy, graph: PolicyGraph, observation: str, pairs: str, age: str
) -> str:
    """Add what the estimator's network sees, as `Estimator.inputs`."""
    length, size = np.shape(policy.empty.pairs)
    mean, std = policy.estimator.normalizer
    count = np.shape(mean)[0] - size  # observed numbers
    parts = []
    for i in range(length):
        pair = graph.columns(pairs, i * size, (i + 1) * size)
        after = observation
        if i < length - 1:
            after = graph.columns(pairs, (i + 1) * size, (i + 1) * size + count)
        change = graph.add("Sub", after, graph.columns(pair, 0, count))
        step = graph.add("Concat", pair, change, axis=-1)
        filled = graph.add("GreaterOrEqual", age, float(length - i))
        normalized = add_normalizer(policy.estimator.normalizer, graph, step)
        parts.append(graph.add("Mul", normalized, graph.add("Cast", filled, to=FLOAT)))
    newest = add_normalizer(Normalizer(mean[:count], std[:count]), graph, observation)
    share = graph.add("Div", age, float(length))
    return graph.add("Concat", *parts, newest, share, axis=-1)


def add_normalizer(normalizer: Normalizer, graph: PolicyGraph, value: str) -> str:
    """Add what subtracts the mean, divides by the deviation and clips."""
    centred = graph.add("Sub", value, normalizer.mean)
    return graph.clip(graph.add("Div", centred, normalizer.std), -10.0, 10.0)


def add_unit_action(policy: SquashedPolicy, graph: PolicyGraph, observation: str) -> str:
    """Add the networks of SAC's policy and the tanh of their means, in -1..1."""
    means = []
    for network in policy.actor:
        both = graph.mlp(network, observation, "Relu")
        means.append(graph.columns(both, 0, np.shape(network[-1][1])[0] // 2))
    mean = means[0]
    if len(means) > 1:
        mean = graph.add("Concat", *means, axis=-1)
    return graph.add("Tanh", mean)


def add_scale(policy: SquashedPolicy, graph: PolicyGraph, unit: str) -> str:
    """Add the scale from -1..1 to the robot's bounds, as `SquashedPolicy.scaled`."""
    low, high = np.asarray(policy.low, np.float32), np.asarray(policy.high, np.float32)
    half = graph.add("Mul", graph.add("Add", unit, 1.0), 0.5)
    scaled = graph.add("Add", graph.add("Mul", half, high - low), low)
    return graph.clip(scaled, low, high)


def _add_lstm(cell: LSTM, graph: PolicyGraph, before: str, x: str) -> str:
    """Add an LSTM's step, by operators that pass NaN on, which onnxruntime's LSTM does not."""
    units = np.shape(cell.back)[0]
    output, state = graph.columns(before, 0, units), graph.columns(before, units, 2 * units)
    driven = _drive(cell, graph, x)
    gates = graph.add("Add", driven, graph.add("MatMul", output, cell.back))
    enter, stay, candidate, leave = _split(graph, gates, 4, units)
    kept = graph.add("Mul", graph.add("Sigmoid", stay), state)
    entered = graph.add("Mul", graph.add("Sigmoid", enter), graph.add("Tanh", candidate))
    state = graph.add("Add", kept, entered)
    output = graph.add("Mul", graph.add("Sigmoid", leave), graph.add("Tanh", state))
    return graph.add("Concat", output, state, axis=-1)


def _add_gru(cell: GRU, graph: PolicyGraph, before: str, x: str) -> str:
    """Add a GRU's step, its reset gate after the product."""
    units = np.shape(cell.back)[0]
    reset, update, candidate = _split(graph, _drive(cell, graph, x), 3, units)
    returned = graph.add("MatMul", before, cell.back)
    reset_back, update_back, candidate_back = _split(graph, returned, 3, units)
    update = graph.add("Sigmoid", graph.add("Add", update, update_back))
    reset = graph.add("Sigmoid", graph.add("Add", reset, reset_back))
    recalled = graph.add("Add", candidate, graph.add("Mul", reset, candidate_back))
    new = graph.add("Tanh", recalled)
    fresh = graph.add("Mul", graph.add("Sub", np.ones((1, 1)), update), new)
    return graph.add("Add", fresh, graph.add("Mul", update, before))


def _drive(cell: LSTM | GRU, graph: PolicyGraph, x: str) -> str:
    """Add what inputs drive, [N, gates x H]."""
    return graph.add("Add", graph.add("MatMul", x, cell.into), cell.bias)


def _split(graph: PolicyGraph, value: str, count: int, size: int) -> list[str]:
    return [graph.columns(value, i * size, (i + 1) * size) for i in range(count)]
