"""Identification: the parameters of a robot from a log of it.

    fit = identify("half_cheetah", log, parameters=["damping", "motor_strength"])
    fit.save("fit.json")

1. On a part of the log, by one step from each logged state: several starts, and a fit for each
   candidate delay.
2. What is left tells whether the states are exact. If not, segments of several steps are fitted,
   their starts and the noise with them.
3. The sandwich over blocks gives intervals; what is held out says how much of the gap is explained.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import as_domain
from isthmus.identification.delays import split_delay
from isthmus.identification.fit import Fit
from isthmus.identification.intervals import estimate_spread
from isthmus.identification.invariances import find_invariances
from isthmus.identification.least_squares import (
    SMALL_GAIN,
    SMALL_NOISY_GAIN,
    LeastSquares,
    solve,
)
from isthmus.identification.log_space import LogSpace, choose_parameters
from isthmus.identification.residual import Predictor
from isthmus.identification.segments import Segments, cut_segments
from isthmus.identification.verdicts import explain_gap, judge_parameters, list_combinations
from isthmus.logs.log import Log, close_episodes
from isthmus.physics.model_files import digest_model
from isthmus.tasks.task import Task, find_task
from isthmus.types import BadValue

MIN_TRANSITIONS = 40
MAX_TRANSITIONS = 10_000  # that are fitted; of a longer log, blocks drawn by the seed
COARSE_SEGMENTS = 200  # on which starts and delays are compared
STARTS = 3
LITTLE_LEFT = 0.01  # mean loss, in usual changes of a step: 1 % of it is errors of 14 %
START_REACH = 0.7  # in u, of the other starts around the source's values: a factor of 2
PART_STEPS = 200  # of a long log's parts that are drawn
ROUNDING = 1e-7  # of a step's usual change: what a residual cannot be below
NOISE_SETTLED = 0.05  # in logarithm
HELD_OUT_SHARE = 0.2  # of blocks
EXACT_SHARE = 1e-3  # of a step's usual change: smaller residuals are rounding
NOISY_HORIZON = 2  # steps of a segment whose start is fitted: of more, contacts mislead it
UNKNOWN_HORIZON = 10  # where coordinates are never observed, and only motion tells them
MAX_HORIZON = 50
MAX_DELAY = 3
MAX_NOISE_ROUNDS = 4
MAD_SD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation

OnStep = Callable[[str, float], None]


@dataclass(frozen=True)
class _Job:
    """What is fitted, to what."""

    source: RobotDomain
    task: Task
    log: Log
    space: LogSpace
    rng: np.random.Generator
    on_step: OnStep | None

    def tell(self, stage: str) -> Callable[[float], None] | None:
        """Return the solver's callback of a stage."""
        if self.on_step is None:
            return None
        on_step = self.on_step

        def pass_on(cost: float) -> None:
            on_step(stage, cost)

        return pass_on


def identify(
    source: Domain | str,
    log: Log,
    parameters: Sequence[str] = (),
    horizon: int | None = None,
    noise: float | Sequence[float] | None = None,
    max_delay: int = MAX_DELAY,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Fit:
    """Fit a robot's parameters to a log of it; start from `source`'s values.

    `parameters` are names and patterns with `*` (none: those of the whole robot). `horizon` is how
    many steps a segment has (None: 1 where the states are exact, NOISY_HORIZON where they are not,
    UNKNOWN_HORIZON where a coordinate is never observed). `noise` is the standard deviation of
    each observed number's noise (one number, or O; None: estimated; 0: the states are exact).
    Delays up to `max_delay` steps are tried. `on_step(stage, loss)` is called before each
    iteration. Raises BadValue, in one line, where the log does not fit the robot, tells nothing, or
    is explained no better than by `source`.
    """
    job = _prepare(source, log, parameters, seed, on_step)
    _check_options(horizon, max_delay)
    given = _read_noise(noise, job)
    coarse = _fit_coarsely(job, max_delay, given)
    if horizon is None:
        most = UNKNOWN_HORIZON if coarse.has_unknown else NOISY_HORIZON
        horizon = 1 if coarse.is_exact else _choose_horizon(job.log, coarse.delay, most)
    segments = cut_segments(job.log, job.task, horizon, coarse.delay)
    fitted, held_out = _split_blocks(segments.block, job.rng)
    chosen = segments.take(np.isin(segments.block, fitted))
    predictor = Predictor(job.source, job.space, chosen, fits_starts=not coarse.is_exact)
    predictor.untold = coarse.untold
    solution, sd = _fit_fully(job, predictor, coarse, given)
    spread = estimate_spread(solution.normal, chosen.block, coarse.untold)
    tested = segments
    if not _has_unknown(segments):
        tested = cut_segments(job.log, job.task, 1, coarse.delay, blocks_of=horizon)
    tested = tested.take(np.isin(tested.block, held_out))
    gap = explain_gap(job.source, job.space, solution.u, tested)
    gap.check_gain()
    action_delay, observation_delay = split_delay(job.log, coarse.delay)
    return Fit(
        task=job.source.task,
        engine=job.source.engine,
        source=str(job.source),
        parameters=judge_parameters(job.source.table(), job.space, solution.u, spread),
        covariance=tuple(map(tuple, spread.covariance.tolist())),
        combinations=list_combinations(job.space.names, spread),
        explained=gap.explained,
        held_out=gap.list_numbers(job.task.observation_names),
        action_delay=action_delay,
        observation_delay=observation_delay,
        delay_losses=coarse.losses,
        horizon=horizon,
        fitted_starts=bool(predictor.starts.size),
        noise=tuple(np.where(np.isfinite(sd), sd, 0.0).tolist()),
        transitions=log.size,
        blocks=len(fitted),
        world_steps=coarse.world_steps + predictor.steps,
        log_digest=log.digest(),
        model_digest=digest_model(job.task.model_path()),
        versions={name: importlib.metadata.version(name) for name in ("isthmus", "mujoco")},
        seed=seed,
    )


def _prepare(
    source: Domain | str, log: Log, parameters: Sequence[str], seed: int, on_step: OnStep | None
) -> _Job:
    """Check the source and the log; choose the parameters."""
    source = as_domain(source)
    if not isinstance(source, RobotDomain):
        raise BadValue(f"{source} cannot be fitted: it is no robot in a physics engine of ours")
    if source.effects:
        names = ", ".join(effect.name for effect in source.effects)
        raise BadValue(
            f"a fit starts from a robot without effects; leave {names} out of the source"
        )
    if not all(isinstance(setting, float | int) for _, setting in source.settings):
        raise BadValue(f"a fit starts from one robot; {source} draws its parameters")
    source.ready()
    task = find_task(source.task)
    _check_log(source, log)
    table, fixed = source.table(), dict(source.settings)
    names = choose_parameters(table, parameters)
    if not names:
        raise BadValue(f"{source.task} has none of the usual parameters; name some: --parameters")
    start: dict[str, float] = {}
    for name in names:
        setting = fixed.get(name, table[name].default)
        assert isinstance(setting, float | int)
        start[name] = float(setting)
    rng = np.random.default_rng(seed)
    space = LogSpace.of(table, start)
    return _Job(source, task, _shorten(log, rng), space, rng, on_step)


def _check_log(source: RobotDomain, log: Log) -> None:
    """Raise BadValue where a log is another robot's, too short, or tells nothing."""
    spaces = source.spaces
    sizes = log.obs.shape[1], log.action.shape[1]
    if sizes != (spaces.observation, spaces.action):
        raise BadValue(
            f"the log has {sizes[0]} observed numbers and {sizes[1]} actions, {source} has "
            f"{spaces.observation} and {spaces.action}; is it of another robot?"
        )
    if log.size < MIN_TRANSITIONS:
        raise BadValue(f"the log has {log.size} transitions; a fit needs {MIN_TRANSITIONS} or more")
    for column in (log.obs, log.action, log.next_obs):
        if not np.isfinite(column).all():
            raise BadValue("the log holds NaN or infinity; leave those rows out")
    if (log.action == log.action[0]).all():
        raise BadValue("the log's commands never change, which tells nothing; move the robot")
    if (log.obs == log.obs[0]).all() or (log.obs == log.next_obs).all():
        raise BadValue("nothing moves in the log; move the robot")


def _shorten(log: Log, rng: np.random.Generator) -> Log:
    """Return the log, or its episodes and parts of them drawn up to MAX_TRANSITIONS."""
    if log.size <= MAX_TRANSITIONS:
        return log
    part = np.arange(log.size) // PART_STEPS
    kept = rng.permutation(part[-1])[: MAX_TRANSITIONS // PART_STEPS]
    rows = np.flatnonzero(np.isin(part, kept))
    broken = np.append(False, np.diff(rows) > 1) | np.append(False, np.diff(log.episode[rows]) > 0)
    shorter = Log(*(column[rows] for column in log))
    return close_episodes(shorter._replace(episode=np.cumsum(broken)))


def _check_options(horizon: int | None, max_delay: int) -> None:
    if horizon is not None and not 1 <= horizon <= MAX_HORIZON:
        raise BadValue(f"horizon={horizon}: needs a whole number in 1..{MAX_HORIZON}")
    if max_delay < 0:
        raise BadValue(f"max_delay={max_delay}: needs a whole number, 0 or more")


def _read_noise(noise: float | Sequence[float] | None, job: _Job) -> np.ndarray | None:
    """Return the noise's standard deviations [O]; None where they are to be estimated."""
    if noise is None:
        return None
    size = job.log.obs.shape[1]
    given = np.asarray(noise, float).reshape(-1)
    if len(given) not in (1, size) or not (np.isfinite(given) & (given >= 0)).all():
        raise BadValue(f"noise needs one standard deviation, or {size}, each 0 or more")
    return np.broadcast_to(given, (size,)).copy()


@dataclass(frozen=True)
class _Coarse:
    """What the fit of a part of the log found."""

    u: np.ndarray
    sd: np.ndarray  # [O] of one-step residuals
    delay: int
    losses: tuple[tuple[int, float], ...]
    is_exact: bool
    has_unknown: bool  # coordinates that no observation tells
    untold: np.ndarray  # [K, P] directions that change no prediction
    world_steps: int


class _Candidate(NamedTuple):
    """A delay, and the fit under it."""

    delay: int
    predictor: Predictor
    solution: LeastSquares


def _fit_coarsely(job: _Job, max_delay: int, given: np.ndarray | None) -> _Coarse:
    """Compare starts and delays on a part of the log, by few steps from each logged state."""
    candidates: list[_Candidate] = []
    world_steps = 0
    usual = _measure_change(_cut_coarsely(job, 0))
    for delay in range(max_delay + 1):
        segments = _cut_coarsely(job, delay)
        predictor = Predictor(job.source, job.space, segments, fits_starts=False)
        stage = f"a delay of {delay} steps" if delay else "one step ahead"
        solution = _fit_from_starts(job, predictor, usual, stage)
        world_steps += predictor.steps
        candidates.append(_Candidate(delay, predictor, solution))
        # Where so little is left no delay is in question.
        if solution.cost < LITTLE_LEFT:
            break
    best = min(candidates, key=lambda candidate: candidate.solution.cost)
    unknown = _has_unknown(best.predictor.segments)
    exact = _is_exact(best.solution, usual) if given is None else not given.any()
    return _Coarse(
        u=best.solution.u,
        sd=_measure_sd(best.solution, usual),
        delay=best.delay,
        losses=tuple((c.delay, c.solution.cost) for c in candidates),
        is_exact=exact and not unknown,
        has_unknown=unknown,
        untold=find_invariances(best.predictor, best.solution, usual),
        world_steps=world_steps,
    )


def _cut_coarsely(job: _Job, delay: int) -> Segments:
    """Return up to COARSE_SEGMENTS segments, the same rows whatever the delay."""
    segments = cut_segments(job.log, job.task, 1, delay)
    if _has_unknown(segments):
        segments = cut_segments(job.log, job.task, UNKNOWN_HORIZON, delay)
    count = min(COARSE_SEGMENTS, segments.size)
    return segments.take(np.linspace(0, segments.size - 1, count).round().astype(int))


def _fit_from_starts(job: _Job, predictor: Predictor, sd: np.ndarray, stage: str) -> LeastSquares:
    """Fit from several starting points, none on a bound, and return the best solution."""
    space, begin = job.space, predictor.starts.begin(predictor.segments)
    rng = np.random.default_rng(0)
    best: LeastSquares | None = None
    for k in range(STARTS):
        u = space.origin
        if k:
            u = u + rng.uniform(-START_REACH, START_REACH, len(u))
        margin = np.minimum(0.05, 0.1 * (space.high - space.low))
        u = np.clip(u, space.low + margin, space.high - margin)
        solution = solve(predictor, u, begin, sd, job.tell(stage))
        # Of equal ends the one from the source's values stays.
        if best is None or solution.cost < 0.99 * best.cost:
            best = solution
        if _is_exact(best, sd):
            break
    assert best is not None
    return best


def _measure_change(segments: Segments) -> np.ndarray:
    """Return how much each observed number changes in a step, [O]; infinity where it never does."""
    change = segments.targets[:, 0] - segments.obs
    usual = np.sqrt(np.mean(change * change, axis=0))
    spread = segments.obs.std(axis=0)
    moves = usual > 1e-9 * np.maximum(1.0, np.abs(segments.obs).max(axis=0))
    return np.where(moves & (spread > 0), usual, np.inf)


def _measure_sd(solution: LeastSquares, usual: np.ndarray) -> np.ndarray:
    """Return the residuals' standard deviations [O], robustly, of what is not fitted away.

    At least ROUNDING of the usual change: a log holds 7 digits.
    """
    size = MAD_SD * np.median(np.abs(solution.residual), axis=0)  # [rows, O]
    free = np.maximum(1 - solution.normal.leverage / len(solution.residual), 0.0)
    free = np.maximum(free.sum(axis=0), 0.1 * len(free))
    sd = np.maximum(np.sqrt(np.sum(size * size, axis=0) / free), ROUNDING * usual)
    return np.where(np.isfinite(usual), sd, np.inf)


def _is_exact(solution: LeastSquares, usual: np.ndarray) -> bool:
    """Return whether what a fit leaves is rounding."""
    size = MAD_SD * np.median(np.abs(solution.residual), axis=(0, 1))
    moving = np.isfinite(usual)
    return bool(np.median(size[moving] / usual[moving]) < EXACT_SHARE)


def _has_unknown(segments: Segments) -> bool:
    """Return whether there are coordinates that no observation tells."""
    state = np.concatenate([segments.qpos, segments.qvel], axis=1)
    return bool(np.isnan(state).all(axis=0).any())


def _choose_horizon(log: Log, delay: int, most: int) -> int:
    """Return the most steps that are asked for, or less where episodes are shorter."""
    return int(np.clip(np.median(log.lengths) - delay, 1, most))


def _split_blocks(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the blocks to fit and those to hold out."""
    blocks = rng.permutation(np.unique(block))
    count = max(1, round(HELD_OUT_SHARE * len(blocks)))
    if len(blocks) < 4:
        raise BadValue(
            f"the log holds {len(blocks)} stretches that can be fitted; log longer episodes"
        )
    return np.sort(blocks[count:]), np.sort(blocks[:count])


def _fit_fully(
    job: _Job, predictor: Predictor, coarse: _Coarse, given: np.ndarray | None
) -> tuple[LeastSquares, np.ndarray]:
    """Fit the whole log, the noise with it where it is not given."""
    usual = _measure_change(predictor.segments)
    sd = np.where(np.isfinite(usual), np.maximum(coarse.sd, ROUNDING * usual), np.inf)
    start = predictor.starts.begin(predictor.segments)
    if not coarse.is_exact and given is not None:
        sd = np.where(np.isfinite(usual), np.maximum(given, ROUNDING * usual), np.inf)
        return solve(predictor, coarse.u, start, sd, job.tell("all of the log")), sd
    small_gain = SMALL_GAIN if coarse.is_exact else SMALL_NOISY_GAIN
    solution = solve(predictor, coarse.u, start, sd, job.tell("all of the log"), small_gain)
    for _ in range(1 if coarse.is_exact else MAX_NOISE_ROUNDS):
        newer = _measure_sd(solution, usual)
        moving = np.isfinite(usual)
        settled = np.abs(np.log(newer[moving] / sd[moving])).max(initial=0) < NOISE_SETTLED
        sd = newer
        if settled:
            break
        tell = job.tell("its noise")
        solution = solve(predictor, solution.u, solution.start, sd, tell, small_gain)
    return solution, sd
