"""ES-sim2real's figures as trials: landscapes over torso mass and friction (1), with the controls
that the abstract lacks, the number of updates against the return ("updates"), other operators than
PPO ("operators"), agents that remember ("memory") and a learned reward ("reward").

Both readings of friction: as published (the foot's own coefficient, of no effect below the floor's
1) and the true friction of the contact (floor and robot together). A cell's return is "before"
adaptation or, where nothing is said, after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from isthmus.studies.trial import Trial

PROBLEM = "hopper-es-sim2real"


class GridAxes(NamedTuple):
    """A landscape's axes, as a domain's settings have them."""

    mass: str  # kg
    friction: str


READINGS = {"as_published": "foot_friction", "contact": "friction"}
WHOLE = GridAxes("0.5..11.5:12", "0.1..2.9:15")
COARSE = GridAxes("0.5..10.5:6", "0.1..2.9:8")
SMOKE = GridAxes("1..11:3", "0.5..2.5:3")
UPDATES = (0, 1, 2, 3, 6)

# Chosen on seeds that are not reported: docs/lab/es_sim2real.md.
PPO = {"learner.privileged": True, "learner.discount": 0.995}
TINY = PPO | {"learner.worlds": 8, "learner.steps": 64, "learner.hidden": (8,), "learner.epochs": 2}
RECURRENT = PPO | {
    "learner.worlds": 4,
    "learner.steps": 32,
    "learner.hidden": (8,),
    "learner.units": 8,
    "learner.epochs": 1,
    "learner.minibatch": 32,
}


@dataclass(frozen=True)
class Agent:
    """A row of the study. `budget` names the scale's number of source steps, which those of `start`
    precede; "" is none of its own.
    """

    method: str
    budget: str
    figure: str
    start: str | None = None
    settings: dict[str, Any] | None = None
    few: bool = False  # three seeds at laptop scale

    @property
    def evolves(self) -> bool:
        """Whether its outer loop is evolution."""
        return self.method in ("es_maml", "evolution", "learned_reward")


BASE = "domain_randomization"
OPERATORS = ("es_gradient", "average_hill_climbing", "batch_hill_climbing")
AGENTS = {  # in the order in which they are run
    "naive": Agent("source_only", "base", "1"),
    BASE: Agent("domain_randomization", "base", "1"),
    # Randomization as it is, and es_maml's updates in the target.
    "few_shot_ppo": Agent("few_shot_ppo", "", "1", BASE),
    "evolution": Agent("evolution", "more", "1", BASE),
    "es_maml": Agent("es_maml", "more", "1", BASE),
    # Not a warm restart, which un-anneals it.
    "longer_randomization": Agent("domain_randomization", "longer", "1"),
    "recurrent": Agent("recurrent_randomization", "recurrent", "memory"),
    "rl2": Agent("rl2", "recurrent", "memory"),
    "learned_reward": Agent("learned_reward", "more", "reward", BASE, few=True),
    "learned_reward_masked": Agent(
        "learned_reward", "more", "reward", BASE, {"masked": (6,)}, few=True
    ),
}
for _operator in OPERATORS:
    AGENTS[_operator] = Agent(
        "es_maml", "more", "operators", BASE, {"operator": _operator}, few=True
    )
FIGURES = ("1", "updates", "operators", "memory", "reward")


class EsScale(NamedTuple):
    """How much is trained."""

    base: int  # source steps
    more: int
    longer: int
    recurrent: int
    seeds: int
    episodes: int  # a cell
    scratch: bool  # evolution starts from nothing
    learner: dict[str, Any]
    evolution: dict[str, Any]
    adaptation: dict[str, Any]
    # Of the other operators, for about as many steps of a target as PPO's updates take.
    queries: dict[str, Any]


SCALES = {
    "smoke": EsScale(
        base=1_024,
        more=1_500,
        longer=2_524,
        recurrent=512,
        seeds=1,
        episodes=1,
        scratch=False,
        learner=TINY,
        evolution={"pairs": 1, "episodes": 1},
        adaptation={"adaptation_worlds": 2, "adaptation_steps": 32},
        queries={"updates": 1},
    ),
    "laptop": EsScale(
        base=2_000_000,
        more=4_000_000,
        longer=6_000_000,
        recurrent=1_000_000,
        seeds=5,
        episodes=5,
        scratch=False,
        learner=PPO,
        evolution={"pairs": 16},
        adaptation={"adaptation_steps": 128},
        queries={"updates": 1},
    ),
    "paper": EsScale(
        base=10_000_000,
        more=2_400_000_000,
        longer=30_000_000,
        recurrent=10_000_000,
        seeds=5,
        episodes=20,
        scratch=True,
        learner=PPO,
        evolution={"pairs": 192},
        adaptation={},
        queries={"updates": 3},
    ),
}


def format_axes(reading: str, axes: GridAxes) -> str:
    """Return a landscape's axes as a domain's settings."""
    return f"torso_mass={axes.mass},{READINGS[reading]}={axes.friction}"


def list_es_trials(scale: str, figure: str | None) -> list[Trial]:
    """Return the trials agent after agent, each with what it starts from."""
    needed: list[str] = []
    for name in _list_agents(figure):
        needed += filter(None, (AGENTS[name].start, name))
    trials = []
    for name in dict.fromkeys(needed):
        seeds = SCALES[scale].seeds
        if AGENTS[name].few and scale == "laptop":
            seeds = 3
        trials += [_make_trial(scale, name, seed) for seed in range(seeds)]
    return trials


def _list_agents(figure: str | None) -> list[str]:
    """Return a figure's agents, with es_maml, which all others are held against."""
    if figure is None:
        return [*AGENTS]
    if figure == "updates":
        return ["few_shot_ppo", "es_maml"]
    agents = [name for name, agent in AGENTS.items() if agent.figure == figure]
    return [*dict.fromkeys([*agents, "es_maml"])]


def _make_trial(scale: str, name: str, seed: int) -> Trial:
    size, agent = SCALES[scale], AGENTS[name]
    start = None
    if agent.start and not (agent.evolves and size.scratch):
        start = f"{scale}-{agent.start}-s{seed}"
    steps = getattr(size, agent.budget) if agent.budget else 0
    axes = SMOKE if scale == "smoke" else WHOLE
    return Trial(
        f"{scale}-{name}-s{seed}",
        agent.method,
        PROBLEM,
        seed,
        steps,
        _choose_settings(scale, agent, steps),
        start=start,
        evaluation_episodes=size.episodes,
        landscapes={reading: format_axes(reading, axes) for reading in READINGS},
        landscape_episodes=size.episodes,
    )


def _choose_settings(scale: str, agent: Agent, steps: int) -> dict[str, Any]:
    size = SCALES[scale]
    learner = RECURRENT if (scale, agent.budget) == ("smoke", "recurrent") else size.learner
    settings = dict(learner)
    if agent.evolves:
        settings |= size.evolution
    if agent.method in ("few_shot_ppo", "es_maml", "learned_reward"):
        settings |= size.adaptation
    if agent.figure == "operators":
        settings |= size.queries
    settings["learner.annealing"] = steps  # over all its own; K updates in a target hardly begin it
    return settings | (agent.settings or {})
