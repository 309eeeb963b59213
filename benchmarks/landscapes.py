"""A landscape of one policy: all cells and episodes as one batch, against a loop of SB3's
`evaluate_policy`.

The same weights play on both sides. The whole landscape would take the loop too long: in each turn
it plays other, randomly drawn cells, and its time is scaled by steps. Both sides' returns in these
cells are checked to agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from bare import sizes
from measure import Row, alternate, console, timed
from sb3 import Peer

import isthmus
from isthmus.deploy.onnx_export import build_graph
from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import rollout_episodes
from isthmus.evaluation.evaluate import draw_targets
from isthmus.evaluation.landscape import Landscape, landscape
from isthmus.methods.single_domain import DomainRandomization
from isthmus.problems.problem import Problem

LOOP = "a loop of SB3's evaluate_policy"


@dataclass(frozen=True)
class Sizes:
    grid: str = "hopper/torso_mass=0.5..11.5:12,foot_friction=0.1..2.9:15"
    episodes: int = 20  # a cell
    training: int = 500_000  # steps
    uncertainty: str = "torso_mass=1..9,foot_friction=1.5..2.5"
    pairs: int = 3
    cells: int = 6  # that the loop plays in a turn
    threads: int = 1  # torch's: one row at a time gives two nothing to share


def compare(size: Sizes, peer: Peer) -> Iterator[Row]:
    grid = parse_domain(size.grid)
    policy = trained(size)
    export(peer, policy, size.threads)
    check_actions(peer, policy, grid)
    rollout_episodes(grid, grid.worlds(1, seed=0), policy)  # compiles
    cells, _ = draw_targets(grid, 1, seed=0)
    order = iter(np.random.default_rng(0).permutation(len(cells)))
    ours_played: list[Landscape] = []
    theirs_played: list[tuple[np.ndarray, dict[str, Any]]] = []

    def ours() -> float:
        seconds, scape = timed(lambda: landscape(policy, grid, size.episodes))
        ours_played.append(scape)
        return int(scape.lengths.sum()) / seconds

    def theirs() -> float:
        chosen = np.array(list(islice(order, size.cells)))
        answer = peer.ask("evaluate", cells=models(grid, cells[chosen]), episodes=size.episodes)
        theirs_played.append((chosen, answer))
        return sum(map(sum, answer["lengths"])) / answer["seconds"]

    def model() -> float:
        seconds, scape = timed(lambda: landscape(exported, grid, size.episodes))
        return int(scape.lengths.sum()) / seconds

    with TemporaryDirectory() as folder:
        exported = as_onnx(policy, grid, Path(folder) / "policy.onnx")
        a, m, b = alternate("landscape", size.pairs, ours, model, theirs)
    check_returns(ours_played[0], theirs_played)
    scape = ours_played[0]
    done = sizes(
        grid,
        scape.lengths.size,
        **{"mean length": round(float(scape.lengths.mean()))},
        **{
            "mean return": round(float(scape.returns.mean())),
            "SB3's cells": size.cells,
            "pairs": size.pairs,
        },
    )
    work = f"landscape of {len(cells)} cells x {size.episodes} episodes of one policy"
    yield Row(work, LOOP, 10, "steps", a, b, 15, done)
    work += ", as ONNX"
    yield Row(work, LOOP, 5, "steps", m, b, sizes=done)
    yield Row(work, "the same policy as a run", 0.5, "steps", m, a, sizes=done)


def as_onnx(policy: Any, domain: Domain, path: Path) -> Any:
    """The policy as a user brings one: a model in onnxruntime."""
    action, graph = build_graph(policy, domain, np.zeros(domain.spaces.action, np.float32))
    path.write_bytes(graph.model(action, {}))
    return isthmus.load_policy(path, "task")


def trained(size: Sizes) -> Any:
    """A policy that stands in many cells, so that episodes are long."""
    domain = parse_domain("hopper")
    problem, method = Problem(domain, domain, uncertainty=size.uncertainty), DomainRandomization()
    state = method.init(problem, seed=0)
    with console.status("training the policy to be played"):
        while state.source_steps < size.training:
            state, _ = method.step(problem, state)
    return method.policy(state)


def export(peer: Peer, policy: Any, threads: int) -> None:
    """Hand a GaussianPolicy's weights and normalizer to the peer; SB3 divides by sqrt(variance +
    1e-8), too.
    """
    plain = lambda x: np.asarray(x, np.float64).tolist()
    peer.ask(
        "load", threads=threads, mean=plain(policy.normalizer.mean),
        variance=plain(np.square(np.asarray(policy.normalizer.std, np.float64)) - 1e-8),
        layers=[[plain(weights), plain(bias)] for weights, bias in policy.actor],
    )  # fmt: skip


def check_actions(peer: Peer, policy: Any, domain: Domain) -> None:
    """Raises RuntimeError where the peer's policy is not ours."""
    observations = np.random.default_rng(0).normal(size=(64, domain.spaces.observation))
    ours = np.asarray(policy.act((), observations.astype(np.float32))[0])
    theirs = np.array(peer.ask("act", observations=observations.tolist()))
    if not np.allclose(ours, theirs, atol=1e-4):
        raise RuntimeError(f"the policies differ: actions by {np.abs(ours - theirs).max():g}")


def models(domain: Domain, parameters: np.ndarray) -> list[dict[str, list]]:
    """The model fields that dynamics (n, P) change, a row each."""
    simulation = domain.build(len(parameters))
    assert isinstance(simulation, PhysicsSimulation)
    simulator = simulation.simulator
    simulator.set_parameters(np.arange(len(parameters)), parameters)
    names = sorted({name for parameter in simulator.parameters for name in parameter.fields})
    expand = simulator.batch.expand  # pyright: ignore[reportAttributeAccessIssue]
    fields = {name: expand(name) for name in names}
    return [
        {name: rows[i].tolist() for name, rows in fields.items()} for i in range(len(parameters))
    ]


def check_returns(scape: Landscape, played: list[tuple[np.ndarray, dict[str, Any]]]) -> None:
    """Raises RuntimeError where mean returns in the cells that both played differ by more than
    chance (4 sigma).
    """
    chosen = np.concatenate([cells for cells, _ in played])
    ours = scape.returns.reshape(-1, scape.returns.shape[-1])[chosen]
    theirs = np.concatenate([np.array(answer["returns"]) for _, answer in played])
    difference = float(theirs.mean() - ours.mean())
    spread = float(
        np.sqrt(sum((x.var(1, ddof=1) / x.shape[1]).sum() for x in (ours, theirs)))
    ) / len(chosen)
    console.print(
        f"mean return in {len(chosen)} cells: {ours.mean():.1f} ours, {theirs.mean():.1f} SB3's "
        f"(difference {difference:+.1f}, standard error {spread:.1f})", highlight=False,
    )  # fmt: skip
    if abs(difference) > 4 * spread:
        raise RuntimeError("returns do not agree: the sides do not do the same work")
