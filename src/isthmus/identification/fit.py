"""A fit: what a log told of a robot's parameters, as data.

A fit is a source (`settings`) and a law (`law`), both as texts in the one grammar of domains, so
that a run's configuration holds the numbers themselves and needs no file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.physics.parameters import JointLaw, format_setting
from isthmus.types import BadValue

FORMAT = "isthmus fit 1"
IDENTIFIED, AT_BOUND, NOT_IDENTIFIED = "identified", "at its bound", "not identified"
LAW_SPAN = 3.0  # standard deviations at which a law is truncated


@dataclass(frozen=True)
class FittedParameter:
    """One parameter: its value, its 95 % interval low..high, in its own unit."""

    name: str
    unit: str
    default: float  # the source's, where the fit began
    value: float
    low: float
    high: float
    verdict: str  # IDENTIFIED, AT_BOUND or NOT_IDENTIFIED
    offset: float  # log(value + offset) is what was fitted
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Combination:
    """A direction that the log does not tell: how many e-folds of each parameter go together."""

    weights: dict[str, float]
    text: str


@dataclass(frozen=True)
class ExplainedGap:
    """An observed number's one-step error on held-out segments, root mean squares."""

    name: str
    by_default: float
    by_fit: float
    explained: float  # 1 - (by_fit / by_default)^2

    @property
    def left(self) -> float:
        """What is left of the error, of the default's; 0 where there was none."""
        return self.by_fit / self.by_default if self.by_default else 0.0


@dataclass(frozen=True)
class Fit:
    """What `identify` found. `covariance` [P, P] is of log(value + offset)."""

    task: str
    engine: str
    source: str
    parameters: tuple[FittedParameter, ...]
    covariance: tuple[tuple[float, ...], ...]
    combinations: tuple[Combination, ...]
    explained: float  # of the one-step gap on held-out segments, over all observed numbers
    held_out: tuple[ExplainedGap, ...]
    action_delay: int
    observation_delay: int
    delay_losses: tuple[tuple[int, float], ...]
    horizon: int
    fitted_starts: bool
    noise: tuple[float, ...]  # standard deviation of each observed number's
    transitions: int
    blocks: int
    world_steps: int
    log_digest: str
    model_digest: str
    versions: dict[str, str]
    seed: int

    def settings(self) -> str:
        """Return the fitted values as a domain's settings, `damping=3.01,action_delay=1`.

        What `--source fit.json` changes a source by.
        """
        parts = [f"{p.name}={format_setting(p.value)}" for p in self.parameters]
        return ",".join([*parts, *self._delays()])

    def law(self) -> str:
        """Return the joint law as a domain's settings, what `--uncertainty fit.json` draws from.

        Log-normal, correlated as the fit is, each parameter truncated to LAW_SPAN standard
        deviations and to its bounds.
        """
        loadings = _factorize(np.array(self.covariance)).tolist()
        parts = []
        for parameter, row in zip(self.parameters, loadings, strict=True):
            sd = math.hypot(*row)
            centre = math.log(parameter.value + parameter.offset)
            low = max(math.exp(centre - LAW_SPAN * sd) - parameter.offset, parameter.bounds[0])
            high = min(math.exp(centre + LAW_SPAN * sd) - parameter.offset, parameter.bounds[1])
            if not low < high or sd == 0:
                parts.append(f"{parameter.name}={format_setting(parameter.value)}")
                continue
            mean = min(max(parameter.value, low), high)
            loads = tuple(float(f"{loading:.6g}") for loading in row)
            law = JointLaw("fit", low, high, mean, sd, parameter.offset, loads)
            parts.append(f"{parameter.name}={format_setting(law)}")
        return ",".join([*parts, *self._delays()])

    def _delays(self) -> list[str]:
        delays = {"action_delay": self.action_delay, "observation_delay": self.observation_delay}
        return [f"{name}={steps}" for name, steps in delays.items() if steps]

    def describe(self) -> list[str]:
        """Return what a table does not show, in lines."""
        lines = [combination.text for combination in self.combinations]
        how = "their starts fitted" if self.fitted_starts else "from the logged states"
        steps = "1 step" if self.horizon == 1 else f"{self.horizon} steps"
        lines.append(f"segments of {steps}, {how}; {self.blocks} independent blocks")
        tried = ", ".join(f"{steps}: {loss:.3g}" for steps, loss in self.delay_losses)
        delays = " ".join(self._delays()) or "none"
        lines.append(f"delay: {delays} (loss by steps from command to observation: {tried})")
        worst = max(self.held_out, key=lambda gap: gap.left)
        lines.append(f"what is left is largest in {worst.name}: {worst.left:.1%} of its error")
        return lines

    def check_task(self, task: str) -> None:
        """Raise BadValue where a fit is of another task."""
        if task != self.task:
            raise BadValue(
                f"the fit is of {self.task}, not of {task}; fit this robot's own log: isthmus "
                "identify"
            )

    def save(self, path: Path | str) -> None:
        """Write the fit as JSON."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path | str) -> Fit:
        """Read a fit. Raises BadValue, in one line, for anything else."""
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
            return _read_fit(data)
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        raise BadValue(
            f"{path} cannot be read as a fit: {reason}; make it with isthmus identify"
        ) from None


def is_fit_file(text: str) -> bool:
    """Return whether a text names a fit's file, and is no setting."""
    return text.endswith(".json") and "=" not in text.rpartition("/")[2]


def _factorize(covariance: np.ndarray) -> np.ndarray:
    """Return loadings [P, P] whose product with their transpose is the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _read_fit(data: Mapping[str, Any]) -> Fit:
    """Return the fit that a JSON object describes. Raises ValueError, TypeError or KeyError."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"it is not of the format {FORMAT!r}")
    fields = {name: value for name, value in data.items() if name != "format"}
    unknown = set(fields) - set(Fit.__dataclass_fields__)
    missing = set(Fit.__dataclass_fields__) - set(fields)
    if unknown or missing:
        raise ValueError(f"unknown or missing fields: {', '.join(sorted(unknown | missing))}")
    parameters = []
    for row in fields["parameters"]:
        parameters.append(FittedParameter(**{**row, "bounds": tuple(row["bounds"])}))
    fields["parameters"] = tuple(parameters)
    fields["combinations"] = tuple(Combination(**row) for row in fields["combinations"])
    fields["held_out"] = tuple(ExplainedGap(**row) for row in fields["held_out"])
    fields["covariance"] = tuple(map(tuple, fields["covariance"]))
    fields["delay_losses"] = tuple(map(tuple, fields["delay_losses"]))
    fields["noise"] = tuple(fields["noise"])
    fit = Fit(**fields)
    _check_numbers(fit)
    return fit


def _check_numbers(fit: Fit) -> None:
    """Raise ValueError where numbers of a fit cannot be what they stand for."""
    _check_covariance(np.array(fit.covariance, float), len(fit.parameters))
    for parameter in fit.parameters:
        low, high = parameter.bounds
        if not low <= parameter.value <= high or parameter.value + parameter.offset <= 0:
            raise ValueError(f"{parameter.name}={parameter.value} is out of {low}..{high}")
    for delay in (fit.action_delay, fit.observation_delay):
        if not isinstance(delay, int) or delay < 0:
            raise ValueError(f"a delay of {delay!r} steps")


def _check_covariance(covariance: np.ndarray, count: int) -> None:
    if not count or covariance.shape != (count, count):
        raise ValueError(f"{count} parameters with a covariance of shape {covariance.shape}")
    if not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance).min() < -1e-6:
        raise ValueError("its covariance is none")
