"""Is a shift real, how large is it, and where does it show? Two domains from equal worlds, under
equal actions.

Three runs stand side by side, from the same starts and under the same actions: the source; the
target left to itself; and the target put back into the source's state before each step. How the
last differs after each step is what the shift does at once, how the second differs is what that
grows to. Two engines of one task are compared in the same way, from equal positions and velocities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.effect_chain import Effect
from isthmus.domains.effects import EFFECTS, WeakMotors
from isthmus.domains.parse import as_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.sensing import History, PreviousAction
from isthmus.domains.simulation import SENSE, START
from isthmus.physics.engine import find_engine
from isthmus.physics.friction import OF_ALL_CONTACTS, find_inert_foot_friction
from isthmus.physics.geom_contacts import is_scenery
from isthmus.physics.mujoco import load_model
from isthmus.physics.parameters import Distribution, Grid, ParameterSpec, format_setting
from isthmus.physics.random import Streams, fold, keys
from isthmus.types import BadValue

HORIZON_STEPS = 50  # steps
SMALL_SHARE = (
    0.05  # a step's difference up to this share of what a step changes anyway is called small
)
FOOT, ARMATURE, ENGINE = "foot_friction", "armature", "engine"
NO_CHANGE, SMALL_SHIFT, SHIFT = "no change", "a small shift", "a shift"


@dataclass(frozen=True)
class ShiftEffect:
    """What the differences between two domains do.

    `identical`: every state, observation, reward and fall is equal to the bit. `one_step` is the
    root mean square of the difference after one step from equal states, in standard deviations of
    what a step changes in the source; `apart` that after HORIZON steps from equal starts (or at the
    end of the source's episode), in standard deviations of what is observed in the source. Both are
    of the observed number in which they are largest, named by `one_step_in` and `apart_in`.
    """

    identical: bool
    one_step: float
    one_step_in: str
    apart: float
    apart_in: str

    @property
    def verdict(self) -> str:
        return (
            NO_CHANGE if self.identical else SMALL_SHIFT if self.one_step <= SMALL_SHARE else SHIFT
        )

    def __str__(self) -> str:
        if self.identical:
            return NO_CHANGE
        if math.isnan(self.one_step):
            return "cannot be compared: every episode blew up in its first step"
        return (
            f"{self.verdict}: {self.one_step:.2g} after one step ({self.one_step_in}), "
            f"{self.apart:.2g} after {HORIZON_STEPS} ({self.apart_in})"
        )


@dataclass(frozen=True)
class Alone:
    """A setting in which the domains differ, and what it does with all others as in the source.

    `points` are (source, target, effect): one, or three for a law or a grid, its ends and its
    middle. Of two engines there is a second where one has something that the other has not: it is
    then compared without.
    """

    name: str
    source: str
    target: str
    points: tuple[tuple[str, str, ShiftEffect], ...]


@dataclass(frozen=True)
class Point:
    """All differences together, at one point: `setting` names it where there are laws or grids.

    `contact` is the sliding friction that the engine gave each part's contact with the floor, in
    source and target (NaN: it never touched); `lengths` are the mean steps until a fall, at most
    HORIZON; `diverged` counts episodes that blew up.
    """

    setting: str
    effect: ShiftEffect
    contact: dict[str, tuple[float, float]]
    lengths: tuple[float, float]
    diverged: tuple[int, int]


@dataclass(frozen=True)
class Dimension:
    """An observed number: its standard deviation in the source, its `one_step` and `apart` as in
    Effect, at worst.
    """

    name: str
    std: float
    one_step: float
    apart: float


@dataclass(frozen=True)
class Audit:
    """What `audit` found; `lines()` says it."""

    source: str
    target: str
    points: tuple[Point, ...]
    alone: tuple[Alone, ...]
    dimensions: tuple[Dimension, ...]
    notes: tuple[str, ...]
    episodes: int

    @property
    def effect(self) -> ShiftEffect:
        """The largest of all points."""
        return max(
            (p.effect for p in self.points), key=lambda e: (not e.identical, e.one_step, e.apart)
        )

    @property
    def verdict(self) -> str:
        return self.effect.verdict

    def lines(self) -> list[str]:
        out = [
            f"source   {self.source}",
            f"target   {self.target}",
            f"verdict  {self.effect}",
            *self.notes,
        ]
        out.append("")
        for alone in self.alone:
            out.append(f"{alone.name}: {alone.source} -> {alone.target}")
            # One difference's effect alone is that of all together.
            if len(self.alone) > 1 or alone.name == ENGINE:
                out += [
                    f"    {source} -> {target} alone: {effect}"
                    for source, target, effect in alone.points
                ]
        for point in self.points:
            out.append(f"together{f' at {point.setting}' if point.setting else ''}: {point.effect}")
            out.append(f"    contact friction with the floor: {_contact_text(point.contact)}")
            out.append(
                f"    steps until a fall, at most {HORIZON_STEPS}: {point.lengths[0]:.1f} -> "
                f"{point.lengths[1]:.1f}"
            )
            if any(point.diverged):
                out.append(
                    f"    episodes that blew up: {point.diverged[0]} -> {point.diverged[1]} of "
                    f"{self.episodes}"
                )
        if self.verdict != NO_CHANGE:
            shown = [d for d in self.dimensions if d.std or d.one_step or d.apart]
            width = max(len(d.name) for d in shown)
            out += [
                "",
                f"{'observed':{width}}  {'std':>9}  {'one step':>9}  {f'after {HORIZON_STEPS}':>9}",
            ]
            out += [
                f"{d.name:{width}}  {d.std:9.3g}  {d.one_step:9.2g}  {d.apart:9.2g}" for d in shown
            ]
            if len(shown) < len(self.dimensions):
                out.append(f"and {len(self.dimensions) - len(shown)} numbers that never changed")
            out += [
                "one step: the difference after a step from equal states, in standard deviations "
                "of a step's change",
                f"after {HORIZON_STEPS}: after so many steps from equal starts, in standard "
                "deviations of the number",
            ]
        return out


def audit(
    source: Domain | str,
    target: Domain | str,
    episodes: int = 16,
    seed: int = 0,
    policy: Any = None,
) -> Audit:
    """Compare two domains of one task, or what their texts say, from equal worlds under equal
    actions.

    The actions of `episodes` episodes are random, from weak to as strong as the motors allow; with
    a `policy` there are as many others in which it acts, on what it sees in the source. A law that
    is the same on both sides is held at its middle. Raises BadValue where the two cannot be put
    into equal worlds.
    """
    source, target = as_domain(source), as_domain(target)
    for domain in (source, target):
        if not domain.replayable:
            raise BadValue(
                f"{domain} cannot be audited: its worlds cannot be put into a given state"
            )
    if source.task != target.task:
        raise BadValue(f"an audit compares two domains of one task, not {source} and {target}")
    sizes = [domain.spaces.observation for domain in (source, target)]
    if sizes[0] != sizes[1]:
        raise BadValue(
            f"a policy sees {sizes[0]} numbers in {source} and {sizes[1]} in {target}: they do not "
            "fit"
        )

    plan = _Plan(source, target)
    together, alone, floors = plan.together(), plan.alone(), plan.floors()
    wanted = list(
        dict.fromkeys(
            [*together, *(pair for *_, points in alone for *_, pair in points), *floors.values()]
        )
    )
    found: dict[Comparison, _Result] = {}
    for engines in dict.fromkeys((s.engine, t.engine) for s, t in wanted):
        group = [pair for pair in wanted if (pair[0].engine, pair[1].engine) == engines]
        found.update(zip(group, _compare(plan, group, episodes, seed, policy), strict=True))
    results = [found[pair] for pair in together]
    worst = np.max([(r.std, r.one_step, r.apart) for r in results], axis=0).T  # [O, 3]
    contacts = _contacts(plan, [one for pair in together for one in pair], seed)
    points = [
        Point(plan.label(k), r.effect, _join(*contacts[2 * k : 2 * k + 2]), r.lengths, r.diverged)
        for k, r in enumerate(results)
    ]
    each = [
        Alone(name, s, t, tuple((a, b, found[pair].effect) for a, b, pair in at))
        for name, s, t, at in alone
    ]
    notes = [
        f"{FOOT}={value:g} is below the floor's {floor:g}: contact takes the larger, so it is "
        f"{NO_CHANGE} against "
        f"{FOOT}={floor:g}, to the bit; `{plan.of_all_contacts}` changes foot and floor"
        for (value, floor), pair in floors.items()
        if found[pair].effect.identical
    ]
    notes += [
        f"{one.name} has no effect here: {NO_CHANGE} by it alone, to the bit"
        for one in each
        if all(effect.identical for *_, effect in one.points)
    ]
    notes += dict.fromkeys([*source.left_out(), *target.left_out()])
    if source.reward != target.reward:
        notes.append(
            f"the rewards differ, {source.reward} -> {target.reward}: not compared here, dynamics "
            "are"
        )
    dimensions = [
        Dimension(name, *map(float, row))
        for name, row in zip(observe_domain(source), worst, strict=True)
    ]
    if policy is not None:
        episodes *= 2
    return Audit(
        str(source),
        str(target),
        tuple(points),
        tuple(each),
        tuple(dimensions),
        tuple(notes),
        episodes,
    )


# What is compared


class Variant(NamedTuple):
    """One domain at one point: a value for each parameter that is set in either domain, its
    effects, its engine.

    A value that the engine has no parameter for is not looked at.
    """

    values: tuple[float, ...]
    effects: tuple[Effect, ...]
    engine: str


Comparison = tuple[Variant, Variant]  # source and target


class _Plan:
    """Which points of two domains are compared."""

    def __init__(self, source: Domain, target: Domain):
        self.source, self.target = source, target
        self.tables = {domain.engine: domain.table() for domain in (source, target)}
        self.table = {name: p for table in self.tables.values() for name, p in table.items()}
        # DART has no armature, a difference of the engines that no setting says.
        self.bare = [ARMATURE] if ARMATURE in self.table and not self.shared(ARMATURE) else []
        self.names = sorted({*source.names, *target.names, *self.bare})
        self.written = {
            name: tuple(
                dict(d.settings).get(name, self.table[name].default) for d in (source, target)
            )
            for name in self.names
        }
        self.points = {name: _points(*pair) for name, pair in self.written.items()}
        self.middle = {name: points[len(points) // 2][0] for name, points in self.points.items()}

    def shared(self, name: str) -> bool:
        return all(name in table for table in self.tables.values())

    def known(self, engine: str, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """The parameters that an engine has of `names`, and of `values` (n, P) theirs."""
        columns = [i for i, name in enumerate(self.names) if name in self.tables[engine]]
        return tuple(self.names[i] for i in columns), values[:, columns]

    def side(
        self, values: dict[str, float], effects: tuple[Effect, ...], engine: str | None = None
    ) -> Variant:
        return Variant(
            tuple(values[name] for name in self.names), effects, engine or self.source.engine
        )

    def at(self, k: int) -> dict[str, tuple[float, float]]:
        """The k-th point of every parameter: (source, target) by name."""
        return {name: points[k if len(points) > 1 else 0] for name, points in self.points.items()}

    def label(self, k: int) -> str:
        varied = [(n, p[k][0 if isinstance(self.written[n][0], Distribution | Grid) else 1])
                  for n, p in self.points.items() if len(p) > 1]  # fmt: skip
        return ", ".join(f"{name}={value:.4g}" for name, value in varied)

    def together(self) -> list[Comparison]:
        """All differences at once: the low ends, the middles, the high ends; one point where
        nothing varies.
        """
        out = []
        for k in range(max(map(len, self.points.values()), default=1)):
            s, t = ({name: pair[i] for name, pair in self.at(k).items()} for i in (0, 1))
            out.append(
                (
                    self.side(s, self.source.effects),
                    self.side(t, self.target.effects, self.target.engine),
                )
            )
        return out

    def alone(self) -> list[tuple[str, str, str, list[tuple[str, str, Comparison]]]]:
        """One difference at a time, all else as in the source: its name, both texts, and (source,
        target, pair).
        """
        out = []
        effects = self.source.effects
        for name, (s, t) in self.written.items():
            if s != t and self.shared(name):
                pairs = []
                for v, w in self.points[name]:
                    pair = (
                        self.side({**self.middle, name: v}, effects),
                        self.side({**self.middle, name: w}, effects),
                    )
                    pairs.append((f"{v:.4g}", f"{w:.4g}", pair))
                out.append((name, format_setting(s), format_setting(t), pairs))
        engines = self.source.engine, self.target.engine
        if engines[0] != engines[1]:
            pairs = [
                (
                    *engines,
                    (self.side(self.middle, effects), self.side(self.middle, effects, engines[1])),
                )
            ]
            if self.bare and self.middle[ARMATURE]:
                bare = {
                    name: 0.0 if name.endswith(ARMATURE) else value
                    for name, value in self.middle.items()
                }
                s, t = (
                    f"{e} with {ARMATURE}=x0" if ARMATURE in self.tables[e] else e for e in engines
                )
                pairs.append(
                    (s, t, (self.side(bare, effects), self.side(bare, effects, engines[1])))
                )
            out.append((ENGINE, *engines, pairs))
        own, other = (
            {effect.name: effect for effect in domain.effects}
            for domain in (self.source, self.target)
        )
        for name in EFFECTS:
            s, t = (
                f"{effects[name].value:g}" if name in effects else "off" for effects in (own, other)
            )
            mixed = {**own, name: other.get(name)}
            changed = tuple(effect for n in EFFECTS if (effect := mixed.get(n)))
            # A effect that changes what can be seen has no comparison alone.
            if (
                s != t
                and self.source.effect_chain(changed).obs_size == self.source.spaces.observation
            ):
                out.append(
                    (
                        name,
                        s,
                        t,
                        [
                            (
                                s,
                                t,
                                (self.side(self.middle, effects), self.side(self.middle, changed)),
                            )
                        ],
                    )
                )
        return out

    def floors(self) -> dict[tuple[float, float], Comparison]:
        """Where a foot's friction is below the floor's, by (foot's, floor's): the foot at the
        floor's, and as it is.
        """
        if FOOT not in self.names:
            return {}
        plain = find_inert_foot_friction(load_model(self.source.description().model_path()))
        if plain is None:
            return {}
        out = {}
        for one in (one for pair in self.together() for one in pair):
            values = dict(zip(self.names, one.values, strict=True))
            floor = plain * self.scale_of_floor(values)
            if values[FOOT] < floor:
                out[values[FOOT], floor] = (
                    self.side({**values, FOOT: floor}, one.effects, one.engine),
                    one,
                )
        return out

    @property
    def of_all_contacts(self) -> str:
        """The parameter that scales the friction of all contacts."""
        own, stand_in = OF_ALL_CONTACTS
        return own if own in self.table else stand_in

    def scale_of_floor(self, values: dict[str, float]) -> float:
        """Return what the parameter of all contacts scales the floor's friction by."""
        name = self.of_all_contacts
        return values[name] / self.table[name].default if name in values else 1.0


def _points(source: ParameterSpec, target: ParameterSpec) -> list[tuple[float, float]]:
    """The values (source, target) at which a parameter is compared: one pair, or the ends and the
    middle.
    """

    def ends(setting: ParameterSpec) -> list[float]:
        if isinstance(setting, Grid):
            v = setting.values
            return [v[0], v[len(v) // 2], v[-1]] if len(v) > 1 else list(v)
        if isinstance(setting, Distribution):
            low, high = setting.low, setting.high
            middle = {
                "uniform": (low + high) / 2,
                "log": math.sqrt(low * high),
                "normal": setting.mean,
            }[setting.kind]
            return [low, middle, high]
        return [setting]

    s, t = ends(source), ends(target)
    if source == target:
        return [(s[len(s) // 2], t[len(t) // 2])]
    n = max(len(s), len(t))
    return list(zip(s * (n // len(s)), t * (n // len(t)), strict=True))


def observe_domain(domain: Domain) -> list[str]:
    """Names of what a policy sees."""
    names = list(domain.description().observation_names)
    for effect in domain.effects:
        if isinstance(effect, History):
            count = int(effect.value)
            names = [
                name if k == 1 else f"{name}, {k - 1} before"
                for k in range(count, 0, -1)
                for name in names
            ]
        elif isinstance(effect, PreviousAction) and effect.value:
            names += [f"previous action {i}" for i in range(domain.spaces.action)]
    return names


class StepEngine:
    """Worlds of the plain task in one engine, one a row of `values` (n, P): what is set in
    `plan.names`.

    `weakness` (n,) are their `weak_motors`, 1 where there are none.
    """

    def __init__(self, plan: _Plan, engine: str, values: np.ndarray, weakness: np.ndarray):
        known, self.values = plan.known(engine, values)
        effects = () if (weakness == 1).all() else (WeakMotors(1.0),)
        domain = RobotDomain(
            plan.source.task, tuple((name, 0.0) for name in known), effects, engine
        )
        self.simulation, self.everyone = (
            PhysicsSimulation(domain, len(values)),
            np.arange(len(values)),
        )
        if self.simulation.motor_force is not None:
            self.simulation.motor_force[:] = weakness
        self.simulator, self.engine = self.simulation.simulator, engine

    def begin(self, random: Streams) -> tuple[np.ndarray, np.ndarray]:
        return self.simulation.begin(self.everyone, self.values, random)

    def follow(self, other: StepEngine) -> None:
        """Put the worlds into the state of another's: exact rows, or between engines positions and
        velocities.
        """
        if self.engine == other.engine:
            self.simulation.restore(other.simulation.rows, self.values)
        else:
            self.simulator.reset(self.everyone, other.simulator.qpos, other.simulator.qvel)

    def step(
        self, memory: np.ndarray, *, commanded: np.ndarray, applied: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        obs, reward, fell, _, diverged, memory = self.simulation.step(
            self.everyone, memory, commanded=commanded, applied=applied
        )
        return obs, reward, fell, diverged, memory


# How it is compared


class _Result(NamedTuple):
    effect: ShiftEffect
    std: np.ndarray  # [O]
    one_step: np.ndarray  # [O]
    apart: np.ndarray  # [O]
    lengths: tuple[float, float]
    diverged: tuple[int, int]


class Episode:
    """Worlds [C E] under C chains of effects: C comparisons of E episodes, all stepped in one
    batch.
    """

    def __init__(self, domain: Domain, effects: list[tuple[Effect, ...]], key: np.ndarray):
        self.key, self.chains = key, [domain.effect_chain(g) for g in effects]
        self.memories = [np.zeros((len(key), chain.memory_size)) for chain in self.chains]
        self.seen = np.empty(0)

    def _each(self, array: np.ndarray) -> list[np.ndarray]:
        return np.split(array, len(self.chains))

    def begin(self, obs: np.ndarray, neutral: np.ndarray) -> None:
        parts = zip(self.chains, self.memories, self._each(obs), self._each(neutral), strict=True)
        self.seen = np.concatenate([c.begin(m, o, self._random(0), a) for c, m, o, a in parts])

    def act(self, action: np.ndarray) -> np.ndarray:
        parts = zip(self.chains, self.memories, self._each(action), strict=True)
        return np.concatenate([c.act(m, commanded=a, applied=a) for c, m, a in parts])

    def sense(self, obs: np.ndarray, t: int) -> None:
        parts = zip(self.chains, self.memories, self._each(obs), strict=True)
        self.seen = np.concatenate([c.sense(m, o, self._random(t)) for c, m, o in parts])

    def _random(self, t: int) -> Streams:
        return Streams(fold(self.key, SENSE, 1, t))


class _Actions:
    """Actions [C E, A], the same for every comparison: random ones, then (where there is one) a
    policy's.
    """

    def __init__(self, domain: Domain, comparisons: int, episodes: int, seed: int, policy: Any):
        from isthmus.domains.rollout import repeated

        low, high = domain.spaces.low, domain.spaces.high
        strength = np.linspace(0.2, 1.0, episodes)[:, None]
        push = strength * np.random.default_rng(seed).uniform(
            -1, 1, (HORIZON_STEPS, episodes, len(low))
        )
        self.random = ((high + low) / 2 + (high - low) / 2 * push).astype(np.float32)
        self.comparisons, self.episodes, self.policy = comparisons, episodes, policy
        self.memory = policy and repeated(policy.memory(), comparisons * episodes)

    def __call__(self, t: int, seen: np.ndarray) -> np.ndarray:
        from isthmus.domains.rollout import act

        parts = [np.broadcast_to(self.random[t], (self.comparisons, *self.random.shape[1:]))]
        if self.policy is not None:
            theirs = seen.reshape(self.comparisons, 2 * self.episodes, -1)[:, self.episodes :]
            chosen, self.memory = act()(
                self.policy, self.memory, np.concatenate(theirs).astype(np.float32)
            )
            parts.append(np.asarray(chosen).reshape(self.comparisons, self.episodes, -1))
        return np.concatenate(np.concatenate(parts, axis=1))


def _compare(
    plan: _Plan, pairs: list[Comparison], episodes: int, seed: int, policy: Any
) -> list[_Result]:
    """Source and target of each pair from equal starts under equal actions, one batch a side.

    All sources are in one engine, and all targets.
    """
    source, c = plan.source, len(pairs)
    e = episodes if policy is None else 2 * episodes
    n, key = c * e, keys(seed, e)
    values = np.array([[side.values for side in pair] for pair in pairs]).repeat(
        e, axis=0
    )  # [C E, 2, P]
    engines = [side.engine for side in pairs[0]]
    weakness = np.array([[_weakness(side.effects) for side in pair] for pair in pairs]).repeat(
        e, axis=0
    )  # [C E, 2]
    here, there, forced = (
        StepEngine(plan, engines[i], values[:, i], weakness[:, i]) for i in (0, 1, 1)
    )
    starts = lambda: Streams(np.tile(fold(key, START, 1), c))
    (obs, memory), (its_obs, its_memory), _ = (
        bench.begin(starts()) for bench in (here, there, forced)
    )
    runs = [
        Episode(source, [pair[i].effects for pair in pairs], key) for i in (0, 1, 1)
    ]  # source, target, forced target
    benches = here, there, forced
    for run, bench, first in zip(runs, benches, (obs, its_obs, obs), strict=True):
        run.begin(first, bench.simulation.neutral_action(bench.everyone))
    actions = _Actions(source, c, episodes, seed, policy)

    identical = (runs[0].seen == runs[1].seen).all(1)
    alive = np.ones((2, n), bool)
    lengths, lost = np.zeros((2, n)), np.zeros((2, n), bool)
    counts, before, after, nudged = [], [], [], []
    apart = np.zeros_like(runs[0].seen)  # at the last step of the source's episode
    for t in range(min(HORIZON_STEPS, source.time_limit)):
        action = actions(t, runs[0].seen)
        moved = [run.act(action) for run in runs]
        forced.follow(here)
        nudge, _, _, nudge_lost, _ = forced.step(memory, commanded=action, applied=moved[2])
        before.append(runs[0].seen)
        obs, reward, fell, diverged, memory = here.step(memory, commanded=action, applied=moved[0])
        its_obs, its_reward, its_fell, its_diverged, its_memory = there.step(
            its_memory, commanded=action, applied=moved[1]
        )
        for run, part in zip(runs, (obs, its_obs, nudge), strict=True):
            run.sense(part, t + 1)
        same = np.ones(n, bool)
        for x, y in ((here.simulator.qpos, there.simulator.qpos), (here.simulator.qvel, there.simulator.qvel),
                     (runs[0].seen, runs[1].seen), (reward, its_reward), (fell, its_fell),
                     (diverged, its_diverged)):  # fmt: skip
            same &= (x == y).reshape(n, -1).all(1)
        identical &= same | ~alive[0]
        lengths += alive
        lost |= alive & [diverged, its_diverged]
        good = alive[0] & ~diverged & ~its_diverged & ~nudge_lost
        counts.append(good)
        after.append(runs[0].seen)
        nudged.append(runs[2].seen)
        apart[good] = (runs[1].seen - runs[0].seen)[good]
        alive &= ~np.array([fell | diverged, its_fell | its_diverged])

    names = observe_domain(source)
    out = []
    for k in range(c):
        mine = slice(k * e, (k + 1) * e)
        good = np.array(counts)[:, mine]
        mean, blown = lengths[:, mine].mean(1), lost[:, mine].sum(1)
        ends = (mean[0], mean[1]), (int(blown[0]), int(blown[1]))
        if not good.any():
            nothing = np.full(len(names), np.nan)
            out.append(
                _Result(
                    ShiftEffect(False, np.nan, "", np.nan, ""), nothing, nothing, nothing, *ends
                )
            )
            continue
        was, seen, pushed = (
            np.array(x)[:, mine][good] for x in (before, after, nudged)
        )  # [samples, O]
        std, change = seen.std(0), (seen - was).std(0)
        spread = np.where(std > 0, std, 1.0)
        one_step = _rms(pushed - seen) / np.where(change > 1e-6 * spread, change, spread)
        far = _rms(apart[mine]) / spread
        i, j = int(one_step.argmax()), int(far.argmax())
        effect = ShiftEffect(
            bool(identical[mine].all()), float(one_step[i]), names[i], float(far[j]), names[j]
        )
        out.append(_Result(effect, std, one_step, far, *ends))
    return out


def _weakness(effects: tuple[Effect, ...]) -> float:
    """Return the `weak_motors` among effects; 1 where it is not."""
    for effect in effects:
        if isinstance(effect, WeakMotors):
            return effect.value
    return 1.0


def _rms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x).mean(0))


def _contacts(plan: _Plan, sides: list[Variant], seed: int) -> list[dict[str, float]]:
    """The sliding friction of every part's contacts with the floor, as the engine made them: by
    part, of each side.

    The robot stands up, then falls under random pushes, and what it touches the floor with is seen.
    """
    task = plan.source.description()
    model = load_model(task.model_path())
    scenery = is_scenery(model)
    spaces, found = plan.source.spaces, [dict[str, float]() for _ in sides]
    for engine in plan.tables:
        mine = [k for k, side in enumerate(sides) if side.engine == engine]
        known, values = plan.known(engine, np.array([sides[k].values for k in mine]))
        n, ids, rng = len(mine), np.arange(len(mine)), np.random.default_rng(seed)
        simulator = find_engine(engine).simulator(
            task.model_path(), known, n, task.frame_skip, forces=True
        )
        simulator.set_parameters(ids, values)
        simulator.reset(ids, np.tile(simulator.qpos0, (n, 1)), np.zeros((n, simulator.nv)))
        for _ in range(2 * HORIZON_STEPS):
            simulator.step(ids, np.tile(rng.uniform(spaces.low, spaces.high), (n, 1)))
            for i, k in enumerate(mine):
                for geoms, friction in simulator.contacts(i):
                    parts = [g for g in geoms if not scenery[g]]
                    if len(parts) == 1:
                        name = (
                            model.geom(parts[0]).name
                            or model.body(model.geom_bodyid[parts[0]]).name
                        )
                        name = name.removesuffix("_geom")
                        found[k][name] = max(found[k].get(name, 0.0), friction)
    return found


def _join(source: dict[str, float], target: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {
        part: (source.get(part, math.nan), target.get(part, math.nan))
        for part in sorted({*source, *target})
    }


def _contact_text(contact: dict[str, tuple[float, float]]) -> str:
    def text(pair: tuple[float, float]) -> str:
        source, target = ("untouched" if math.isnan(v) else f"{v:.4g}" for v in pair)
        return source if source == target else f"{source} -> {target}"

    parts: dict[str, list[str]] = {}
    for part, pair in contact.items():
        parts.setdefault(text(pair), []).append(part)
    return (
        "; ".join(f"{', '.join(names)} {friction}" for friction, names in parts.items())
        or "nothing touches it"
    )
