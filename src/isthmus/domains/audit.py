"""Is a shift real, how large is it, and where does it show? Two domains from equal worlds, under equal actions.

Three runs stand side by side, from the same starts and under the same actions: the source; the target left to itself;
and the target put back into the source's state before each step. How the last differs after each step is what the shift
does at once, how the second differs is what that grows to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import mujoco
import numpy as np

from isthmus.domains.domain import SENSE, START, Domain, PhysicsSimulation
from isthmus.domains.gaps import GAPS, Gap, Gaps, History, PreviousAction
from isthmus.physics.mujoco import MujocoSimulator, load_model
from isthmus.physics.parameters import Law, Setting, Values, format_setting
from isthmus.physics.random import Streams, fold, keys
from isthmus.types import BadValue

HORIZON = 50  # steps
SMALL = 0.05  # a step's difference up to this share of what a step changes anyway is called small
FOOT = "foot_friction"
NO_CHANGE, SMALL_SHIFT, SHIFT = "no change", "a small shift", "a shift"


@dataclass(frozen=True)
class Effect:
    """What the differences between two domains do.

    `identical`: every state, observation, reward and fall is equal to the bit. `one_step` is the root mean square of
    the difference after one step from equal states, in standard deviations of what a step changes in the source;
    `apart` that after HORIZON steps from equal starts (or at the end of the source's episode), in standard deviations
    of what is observed in the source. Both are of the observed number in which they are largest, named by
    `one_step_in` and `apart_in`.
    """

    identical: bool
    one_step: float
    one_step_in: str
    apart: float
    apart_in: str

    @property
    def verdict(self) -> str:
        return NO_CHANGE if self.identical else SMALL_SHIFT if self.one_step <= SMALL else SHIFT

    def __str__(self) -> str:
        if self.identical:
            return NO_CHANGE
        return (
            f"{self.verdict}: {self.one_step:.2g} after one step ({self.one_step_in}), "
            f"{self.apart:.2g} after {HORIZON} ({self.apart_in})"
        )


@dataclass(frozen=True)
class Alone:
    """A setting in which the domains differ, and what it does with all others as in the source.

    `points` are (source, target, effect): one, or three for a law or a grid, its ends and its middle.
    """

    name: str
    source: str
    target: str
    points: tuple[tuple[str, str, Effect], ...]


@dataclass(frozen=True)
class Point:
    """All differences together, at one point: `setting` names it where there are laws or grids.

    `contact` is the sliding friction that MuJoCo gave each part's contact with the floor, in source and target (NaN: it
    never touched); `lengths` are the mean steps until a fall, at most HORIZON; `diverged` counts episodes that blew up.
    """

    setting: str
    effect: Effect
    contact: dict[str, tuple[float, float]]
    lengths: tuple[float, float]
    diverged: tuple[int, int]


@dataclass(frozen=True)
class Dimension:
    """An observed number: its standard deviation in the source, its `one_step` and `apart` as in Effect, at worst."""

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
    def effect(self) -> Effect:
        """The largest of all points."""
        return max((p.effect for p in self.points), key=lambda e: (not e.identical, e.one_step, e.apart))

    @property
    def verdict(self) -> str:
        return self.effect.verdict

    def lines(self) -> list[str]:
        out = [f"source   {self.source}", f"target   {self.target}", f"verdict  {self.effect}", *self.notes]
        out.append("")
        for alone in self.alone:
            out.append(f"{alone.name}: {alone.source} -> {alone.target}")
            if len(self.alone) > 1:  # else the effect alone is that of all together
                out += [f"    {source} -> {target} alone: {effect}" for source, target, effect in alone.points]
        for point in self.points:
            out.append(f"together{f' at {point.setting}' if point.setting else ''}: {point.effect}")
            out.append(f"    contact friction with the floor: {_contact_text(point.contact)}")
            out.append(f"    steps until a fall, at most {HORIZON}: {point.lengths[0]:.1f} -> {point.lengths[1]:.1f}")
            if any(point.diverged):
                out.append(f"    episodes that blew up: {point.diverged[0]} -> {point.diverged[1]} of {self.episodes}")
        if self.verdict != NO_CHANGE:
            shown = [d for d in self.dimensions if d.std or d.one_step or d.apart]
            width = max(len(d.name) for d in shown)
            out += ["", f"{'observed':{width}}  {'std':>9}  {'one step':>9}  {f'after {HORIZON}':>9}"]
            out += [f"{d.name:{width}}  {d.std:9.3g}  {d.one_step:9.2g}  {d.apart:9.2g}" for d in shown]
            if len(shown) < len(self.dimensions):
                out.append(f"and {len(self.dimensions) - len(shown)} numbers that never changed")
            out += [
                "one step: the difference after a step from equal states, in standard deviations of a step's change",
                f"after {HORIZON}: after so many steps from equal starts, in standard deviations of the number",
            ]
        return out


def audit(source: Domain, target: Domain, episodes: int = 16, seed: int = 0, policy: Any = None) -> Audit:
    """Compare two domains of one task from equal worlds under equal actions.

    The actions of `episodes` episodes are random, from weak to as strong as the motors allow; with a `policy` there are
    as many others in which it acts, on what it sees in the source. A law that is the same on both sides is held at its
    middle. Raises BadValue where the two cannot be put into equal worlds.
    """
    for domain in (source, target):
        if not domain.replayable:
            raise BadValue(f"{domain} cannot be audited: its worlds cannot be put into a given state")
    if (source.task, source.engine) != (target.task, target.engine):
        raise BadValue(f"an audit compares two domains of one task in one engine, not {source} and {target}")
    sizes = [domain.spaces.observation for domain in (source, target)]
    if sizes[0] != sizes[1]:
        raise BadValue(f"a policy sees {sizes[0]} numbers in {source} and {sizes[1]} in {target}: they do not fit")

    plan = _Plan(source, target)
    together, alone, floors = plan.together(), plan.alone(), plan.floors()
    wanted = list(dict.fromkeys([*together, *(pair for *_, points in alone for *_, pair in points), *floors.values()]))
    found = dict(zip(wanted, _compare(plan, wanted, episodes, seed, policy), strict=True))
    results = [found[pair] for pair in together]
    worst = np.max([(r.std, r.one_step, r.apart) for r in results], axis=0).T  # [O, 3]
    contacts = _contacts(plan, [one.values for pair in together for one in pair], seed)
    points = [
        Point(plan.label(k), r.effect, _join(*contacts[2 * k : 2 * k + 2]), r.lengths, r.diverged)
        for k, r in enumerate(results)
    ]
    each = [Alone(name, s, t, tuple((a, b, found[pair].effect) for a, b, pair in at)) for name, s, t, at in alone]
    notes = [
        f"{FOOT}={value:g} is below the floor's {floor:g}: contact takes the larger, so it is {NO_CHANGE} against "
        f"{FOOT}={floor:g}, to the bit; `friction` changes foot and floor"
        for (value, floor), pair in floors.items()
        if found[pair].effect.identical
    ]
    notes += [
        f"{one.name} has no effect here: {NO_CHANGE} by it alone, to the bit"
        for one in each
        if all(effect.identical for *_, effect in one.points)
    ]
    if source.reward != target.reward:
        notes.append(f"the rewards differ, {source.reward} -> {target.reward}: not compared here, dynamics are")
    dimensions = [Dimension(name, *map(float, row)) for name, row in zip(_observed(source), worst, strict=True)]
    if policy is not None:
        episodes *= 2
    return Audit(str(source), str(target), tuple(points), tuple(each), tuple(dimensions), tuple(notes), episodes)


# What is compared


class _Side(NamedTuple):
    """One domain at one point: a value for each parameter that is set in either domain, and its gaps."""

    values: tuple[float, ...]
    gaps: tuple[Gap, ...]


_Pair = tuple[_Side, _Side]  # source and target


class _Plan:
    """Which points of two domains are compared."""

    def __init__(self, source: Domain, target: Domain):
        self.source, self.target, self.table = source, target, source.table()
        self.names = sorted({*source.names, *target.names})
        self.written = {
            name: tuple(dict(d.settings).get(name, self.table[name].default) for d in (source, target))
            for name in self.names
        }
        self.points = {name: _points(*pair) for name, pair in self.written.items()}
        self.middle = {name: points[len(points) // 2][0] for name, points in self.points.items()}

    def side(self, values: dict[str, float], gaps: tuple[Gap, ...]) -> _Side:
        return _Side(tuple(values[name] for name in self.names), gaps)

    def at(self, k: int) -> dict[str, tuple[float, float]]:
        """The k-th point of every parameter: (source, target) by name."""
        return {name: points[k if len(points) > 1 else 0] for name, points in self.points.items()}

    def label(self, k: int) -> str:
        varied = [(n, p[k][0 if isinstance(self.written[n][0], Law | Values) else 1])
                  for n, p in self.points.items() if len(p) > 1]  # fmt: skip
        return ", ".join(f"{name}={value:.4g}" for name, value in varied)

    def together(self) -> list[_Pair]:
        """All differences at once: the low ends, the middles, the high ends; one point where nothing varies."""
        out = []
        for k in range(max(map(len, self.points.values()), default=1)):
            s, t = ({name: pair[i] for name, pair in self.at(k).items()} for i in (0, 1))
            out.append((self.side(s, self.source.gaps), self.side(t, self.target.gaps)))
        return out

    def alone(self) -> list[tuple[str, str, str, list[tuple[str, str, _Pair]]]]:
        """One difference at a time, all else as in the source: its name, both texts, and (source, target, pair)."""
        out = []
        gaps = self.source.gaps
        for name, (s, t) in self.written.items():
            if s != t:
                pairs = []
                for v, w in self.points[name]:
                    pair = (self.side({**self.middle, name: v}, gaps), self.side({**self.middle, name: w}, gaps))
                    pairs.append((f"{v:.4g}", f"{w:.4g}", pair))
                out.append((name, format_setting(s), format_setting(t), pairs))
        own, other = ({gap.name: gap for gap in domain.gaps} for domain in (self.source, self.target))
        for name in GAPS:
            s, t = (f"{gaps[name].value:g}" if name in gaps else "off" for gaps in (own, other))
            mixed = {**own, name: other.get(name)}
            changed = tuple(gap for n in GAPS if (gap := mixed.get(n)))
            # A gap that changes what can be seen has no comparison alone.
            if s != t and _chain(self.source, changed).observation == self.source.spaces.observation:
                out.append((name, s, t, [(s, t, (self.side(self.middle, gaps), self.side(self.middle, changed)))]))
        return out

    def floors(self) -> dict[tuple[float, float], _Pair]:
        """Where a foot's friction is below the floor's, by (foot's, floor's): the foot at the floor's, and as it is."""
        if FOOT not in self.names:
            return {}
        model = load_model(self.source.description().model_path())
        plain = float(max(model.geom_friction[np.flatnonzero(model.geom_bodyid == 0), 0]))
        out = {}
        for one in (one for pair in self.together() for one in pair):
            values = dict(zip(self.names, one.values, strict=True))
            both = self.table["friction"].default  # `friction` scales the floor as well
            floor = plain * values.get("friction", both) / both
            if values[FOOT] < floor:
                out[values[FOOT], floor] = (self.side({**values, FOOT: floor}, one.gaps), one)
        return out


def _points(source: Setting, target: Setting) -> list[tuple[float, float]]:
    """The values (source, target) at which a parameter is compared: one pair, or the ends and the middle."""

    def ends(setting: Setting) -> list[float]:
        if isinstance(setting, Values):
            v = setting.values
            return [v[0], v[len(v) // 2], v[-1]] if len(v) > 1 else list(v)
        if isinstance(setting, Law):
            low, high = setting.low, setting.high
            middle = {"uniform": (low + high) / 2, "log": math.sqrt(low * high), "normal": setting.mean}[setting.kind]
            return [low, middle, high]
        return [setting]

    s, t = ends(source), ends(target)
    if source == target:
        return [(s[len(s) // 2], t[len(t) // 2])]
    n = max(len(s), len(t))
    return list(zip(s * (n // len(s)), t * (n // len(t)), strict=True))


def _chain(domain: Domain, gaps: tuple[Gap, ...]) -> Gaps:
    spaces = domain.inner_spaces()
    return Gaps(gaps, spaces.observation, spaces.action)


def _observed(domain: Domain) -> list[str]:
    """Names of what a policy sees."""
    names = list(domain.description().observation_names)
    for gap in domain.gaps:
        if isinstance(gap, History):
            count = int(gap.value)
            names = [name if k == 1 else f"{name}, {k - 1} before" for k in range(count, 0, -1) for name in names]
        elif isinstance(gap, PreviousAction) and gap.value:
            names += [f"previous action {i}" for i in range(domain.spaces.action)]
    return names


def _bench(plan: _Plan, n: int) -> PhysicsSimulation:
    """n worlds of the plain task whose parameters in `plan.names` can be set."""
    domain = Domain(plan.source.task, tuple((name, 0.0) for name in plan.names), engine=plan.source.engine)
    return PhysicsSimulation(domain, n)


# How it is compared


class _Result(NamedTuple):
    effect: Effect
    std: np.ndarray  # [O]
    one_step: np.ndarray  # [O]
    apart: np.ndarray  # [O]
    lengths: tuple[float, float]
    diverged: tuple[int, int]


class _Run:
    """Worlds [C E] under C chains of gaps: C comparisons of E episodes, all stepped in one batch."""

    def __init__(self, domain: Domain, gaps: list[tuple[Gap, ...]], key: np.ndarray):
        self.key, self.chains = key, [_chain(domain, g) for g in gaps]
        self.memories = [np.zeros((len(key), chain.memory)) for chain in self.chains]
        self.seen = np.empty(0)

    def _each(self, array: np.ndarray) -> list[np.ndarray]:
        return np.split(array, len(self.chains))

    def begin(self, obs: np.ndarray) -> None:
        parts = zip(self.chains, self.memories, self._each(obs), strict=True)
        self.seen = np.concatenate([c.begin(m, o, self._random(0)) for c, m, o in parts])

    def act(self, action: np.ndarray) -> np.ndarray:
        parts = zip(self.chains, self.memories, self._each(action), strict=True)
        return np.concatenate([c.act(m, a, a) for c, m, a in parts])

    def sense(self, obs: np.ndarray, t: int) -> None:
        parts = zip(self.chains, self.memories, self._each(obs), strict=True)
        self.seen = np.concatenate([c.sense(m, o, self._random(t)) for c, m, o in parts])

    def _random(self, t: int) -> Streams:
        return Streams(fold(self.key, SENSE, 1, t))


class _Actions:
    """Actions [C E, A], the same for every comparison: random ones, then (where there is one) a policy's."""

    def __init__(self, domain: Domain, comparisons: int, episodes: int, seed: int, policy: Any):
        from isthmus.domains.collect import repeated

        low, high = domain.spaces.low, domain.spaces.high
        strength = np.linspace(0.2, 1.0, episodes)[:, None]
        push = strength * np.random.default_rng(seed).uniform(-1, 1, (HORIZON, episodes, len(low)))
        self.random = ((high + low) / 2 + (high - low) / 2 * push).astype(np.float32)
        self.comparisons, self.episodes, self.policy = comparisons, episodes, policy
        self.memory = policy and repeated(policy.memory(), comparisons * episodes)

    def __call__(self, t: int, seen: np.ndarray) -> np.ndarray:
        from isthmus.domains.collect import act

        parts = [np.broadcast_to(self.random[t], (self.comparisons, *self.random.shape[1:]))]
        if self.policy is not None:
            theirs = seen.reshape(self.comparisons, 2 * self.episodes, -1)[:, self.episodes :]
            chosen, self.memory = act()(self.policy, self.memory, np.concatenate(theirs).astype(np.float32))
            parts.append(np.asarray(chosen).reshape(self.comparisons, self.episodes, -1))
        return np.concatenate(np.concatenate(parts, axis=1))


def _compare(plan: _Plan, pairs: list[_Pair], episodes: int, seed: int, policy: Any) -> list[_Result]:
    """Source and target of each pair from equal starts under equal actions, all in one batch."""
    source, c = plan.source, len(pairs)
    e = episodes if policy is None else 2 * episodes
    n = c * e
    key = keys(seed, e)
    values = np.array([[side.values for side in pair] for pair in pairs]).repeat(e, axis=0)  # [C E, 2, P]
    theirs, everyone, both = values[:, 1], np.arange(n), np.arange(2 * n)
    free, forced = _bench(plan, 2 * n), _bench(plan, n)  # the target's worlds come after the source's
    starts = lambda k: Streams(np.tile(fold(key, START, 1), k))  # noqa: E731
    obs, memory = free.begin(both, np.concatenate([values[:, 0], theirs]), starts(2 * c))
    forced.begin(everyone, theirs, starts(c))
    runs = [_Run(source, [pair[i].gaps for pair in pairs], key) for i in (0, 1, 1)]  # source, target, forced target
    for run, first in zip(runs, (obs[:n], obs[n:], obs[:n]), strict=True):
        run.begin(first)
    actions = _Actions(source, c, episodes, seed, policy)

    identical = (runs[0].seen == runs[1].seen).all(1)
    alive = np.ones((2, n), bool)
    lengths, lost = np.zeros((2, n)), np.zeros((2, n), bool)
    counts, before, after, nudged = [], [], [], []
    apart = np.zeros_like(runs[0].seen)  # at the last step of the source's episode
    for t in range(min(HORIZON, source.time_limit)):
        action = actions(t, runs[0].seen)
        moved = [run.act(action) for run in runs]
        forced.restore(free.rows[:n], theirs)
        nudge, _, _, _, nudge_lost, _ = forced.step(everyone, moved[2], action, memory[:n])
        before.append(runs[0].seen)
        chosen = np.concatenate([action, action])
        obs, reward, fell, _, diverged, memory = free.step(both, np.concatenate(moved[:2]), chosen, memory)
        for run, part in zip(runs, (obs[:n], obs[n:], nudge), strict=True):
            run.sense(part, t + 1)
        qpos, qvel = free.simulator.qpos, free.simulator.qvel
        same = np.ones(n, bool)
        for x in (qpos, qvel, np.concatenate([runs[0].seen, runs[1].seen]), reward, fell, diverged):
            same &= (x[:n] == x[n:]).reshape(n, -1).all(1)
        identical &= same | ~alive[0]
        lengths += alive
        lost |= alive & diverged.reshape(2, n)
        good = alive[0] & ~diverged[:n] & ~diverged[n:] & ~nudge_lost
        counts.append(good)
        after.append(runs[0].seen)
        nudged.append(runs[2].seen)
        apart[good] = (runs[1].seen - runs[0].seen)[good]
        alive &= ~(fell | diverged).reshape(2, n)

    names = _observed(source)
    out = []
    for k in range(c):
        mine = slice(k * e, (k + 1) * e)
        good = np.array(counts)[:, mine]
        was, seen, pushed = (np.array(x)[:, mine][good] for x in (before, after, nudged))  # [samples, O]
        std, change = seen.std(0), (seen - was).std(0)
        spread = np.where(std > 0, std, 1.0)
        one_step = _rms(pushed - seen) / np.where(change > 1e-6 * spread, change, spread)
        far = _rms(apart[mine]) / spread
        i, j = int(one_step.argmax()), int(far.argmax())
        effect = Effect(bool(identical[mine].all()), float(one_step[i]), names[i], float(far[j]), names[j])
        mean = lengths[:, mine].mean(1)
        blown = lost[:, mine].sum(1)
        out.append(_Result(effect, std, one_step, far, (mean[0], mean[1]), (int(blown[0]), int(blown[1]))))
    return out


def _rms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x).mean(0))


def _contacts(plan: _Plan, values: list[tuple[float, ...]], seed: int) -> list[dict[str, float]]:
    """The sliding friction of every part's contacts with the floor, as MuJoCo made them: by part, at each of `values`.

    The robot stands up, then falls under random pushes, and what it touches the floor with is seen.
    """
    task, n = plan.source.description(), len(values)
    # Only worlds that keep a whole MjData can be asked for their contacts.
    simulator = MujocoSimulator(task.model_path(), tuple(plan.names), n, task.frame_skip, forces=True)
    model, data, ids = simulator.model, mujoco.MjData(simulator.model), np.arange(n)
    simulator.set_parameters(ids, np.array(values))
    simulator.reset(ids, np.tile(simulator.qpos0, (n, 1)), np.zeros((n, simulator.nv)))
    spaces, rng = plan.source.spaces, np.random.default_rng(seed)
    found: list[dict[str, float]] = [{} for _ in values]
    for _ in range(2 * HORIZON):
        simulator.step(ids, np.tile(rng.uniform(spaces.low, spaces.high), (n, 1)))
        for i in ids:
            simulator.batch.get_data(int(i), data)
            for contact in data.contact[: data.ncon]:
                parts = [g for g in contact.geom if model.geom_bodyid[g]]
                if len(parts) == 1:
                    name = model.geom(parts[0]).name or model.body(model.geom_bodyid[parts[0]]).name
                    name = name.removesuffix("_geom")
                    found[i][name] = max(found[i].get(name, 0.0), float(contact.friction[0]))
    return found


def _join(source: dict[str, float], target: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {part: (source.get(part, math.nan), target.get(part, math.nan)) for part in sorted({*source, *target})}


def _contact_text(contact: dict[str, tuple[float, float]]) -> str:
    def text(pair: tuple[float, float]) -> str:
        source, target = ("untouched" if math.isnan(v) else f"{v:.4g}" for v in pair)
        return source if source == target else f"{source} -> {target}"

    parts: dict[str, list[str]] = {}
    for part, pair in contact.items():
        parts.setdefault(text(pair), []).append(part)
    return "; ".join(f"{', '.join(names)} {friction}" for friction, names in parts.items()) or "nothing touches it"
