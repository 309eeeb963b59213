"""Which other numerics a policy is tried under, one at a time."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.domains.domain import RobotDomain

INTEGRATORS = ("Euler", "RK4", "implicitfast")
CONES = ("pyramidal", "elliptic")
FEW_ITERATIONS = 2


def list_other_numerics(domain: RobotDomain) -> list[str]:
    """Return settings that change a domain's numerics, of those that its engine has.

    Half the timestep and about twice, the integrators and the cone that are not its own, few solver
    iterations.
    """
    own = {**domain.numerics_table(), **domain.numerics.named()}
    texts = _list_timesteps(domain, own)
    for name, choices in (("integrator", INTEGRATORS), ("cone", CONES)):
        texts += [f"{name}={choice}" for choice in choices if own.get(name, choice) != choice]
    if int(own.get("solver_iterations", 0)) > FEW_ITERATIONS:
        texts.append(f"solver_iterations={FEW_ITERATIONS}")
    return texts


def _list_timesteps(domain: RobotDomain, own: Mapping[str, object]) -> list[str]:
    """Return twice as many time steps a control step, and half as many where there are several."""
    if "timestep" not in own:
        return []
    steps = round(domain.step_seconds / float(str(own["timestep"])))
    counts = [2 * steps]
    if steps > 1:
        counts.append(steps // 2)
    return [f"timestep={domain.step_seconds / count:.7g}" for count in counts]
