"""Policies from elsewhere: `policy.onnx`, the folder of an export, `module:factory`.

Nothing is unpickled, and no code of the user's runs but what `module:factory` names.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.deploy.onnx_model import GUIDE, load_onnxruntime
from isthmus.deploy.reading import open_model
from isthmus.domains.batched import is_jittable
from isthmus.tasks.imports import import_named
from isthmus.types import BadValue, IsthmusError, describe_error

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

MODEL_FILE, CONTRACT_FILE = "policy.onnx", "contract.toml"
RECIPES = {
    ".zip": ("is a file of Stable-Baselines3, which holds pickles", "stable-baselines3"),
    ".pt": ("is a file of torch, which holds pickles", "rsl_rl-and-torch"),
    ".pth": ("is a file of torch, which holds pickles", "rsl_rl-and-torch"),
    ".pkl": ("is a pickle, which runs code when it is read", "other-formats"),
    ".pickle": ("is a pickle, which runs code when it is read", "other-formats"),
}
KNOWN_AS = "a run's folder, policy.onnx or its folder, module:factory"


class OnnxPolicy:
    """A model with what is known of its observations and actions; its task is not known yet."""

    def __init__(self, path: Path, contract: str | Path | None = None):
        self.path, self.name = path, path.name
        self.model, self.interface = open_model(path, _find_contract(path, contract))

    @property
    def is_described(self) -> bool:
        """Whether something says what it observes and does."""
        return bool(self.interface.said_by)

    @property
    def trained_in(self) -> str:
        """The domain that it was trained in; empty where neither model nor contract says."""
        return self.interface.trained_in

    @property
    def deployed_to(self) -> str:
        """The domain that it is for, likewise."""
        return self.interface.deployed_to

    def for_domain(self, domain: Domain) -> Any:
        """Return the policy as it acts in a domain. Raises BadValue where it cannot, or where it is
        not known what it observes.
        """
        return self.interface.fit(self.model, domain)

    def describe(self) -> dict[str, Any]:
        """Return what results depend on: the model, its digest, its contract, the runtime."""
        return {
            "policy": str(self.path),
            "sha256": _hash_files(self.path),
            "contract": self.interface.said_by,
            "onnxruntime": load_onnxruntime().__version__,
        }


class FactoryPolicy:
    """What a factory of the user's made: an object with `act`, or a function."""

    trained_in = deployed_to = ""
    is_described = True  # by the code that the user wrote

    def __init__(self, reference: str, made: Any):
        self.name, self.made = reference, made

    def for_domain(self, domain: Domain) -> Any:
        """Return the policy as it acts in a domain."""
        if hasattr(self.made, "for_domain"):
            return self.made.for_domain(domain)
        return self.made

    def describe(self) -> dict[str, Any]:
        """Return what results depend on."""
        return {"policy": self.name}


ForeignPolicy = OnnxPolicy | FactoryPolicy


def load_policy(reference: str | Path, contract: str | Path | None = None) -> Any:
    """Return a policy from elsewhere, or a run's, for `evaluate`, `landscape`, `audit` and others.

    `reference` is `policy.onnx`, a folder that holds it (and `contract.toml`), `module:factory`, or
    a run's folder. `contract` names the contract's file where it does not lie beside the model, or
    says `"task"`: the model observes what the task observes, in its order and unscaled, and acts
    likewise. Raises BadValue, in one line, for what is none.
    """
    if is_foreign(reference):
        return load_foreign(reference, contract)
    from isthmus.training.run import Run

    return Run.open(reference).policy


def is_foreign(reference: str | Path) -> bool:
    """Return whether a reference is of a policy from elsewhere, not of a run.

    Raises BadValue for a file that would have to be unpickled.
    """
    path = Path(reference)
    if path.suffix in RECIPES:
        what, recipe = RECIPES[path.suffix]
        raise BadValue(f"{path} {what}: export it as ONNX by the recipe in {GUIDE}#{recipe}")
    if path.suffix == ".onnx" or (path / MODEL_FILE).exists():
        return True
    return ":" in str(reference) and not path.exists()


def load_foreign(reference: str | Path, contract: str | Path | None = None) -> ForeignPolicy:
    """Return a policy from elsewhere. Raises BadValue, in one line, for what is none."""
    path = Path(reference)
    if path.is_dir():
        path = path / MODEL_FILE
    if path.suffix != ".onnx":
        return _call_factory(str(reference))
    if not path.is_file():
        raise BadValue(f"{path}: there is no such file")
    return OnnxPolicy(path, contract)


def _find_contract(path: Path, contract: str | Path | None) -> str | Path | None:
    """Return the contract that was named, or the file beside a model, if there is one."""
    if contract is not None:
        return contract
    beside = path.with_name(CONTRACT_FILE)
    return beside if beside.is_file() else None


def _call_factory(reference: str) -> FactoryPolicy:
    """Import a module or file that the user named, and call its factory.

    Raises BadValue, in one line, where that fails.
    """
    module_name, colon, factory_name = reference.rpartition(":")
    if not colon:
        raise BadValue(f"{reference} is no policy: name {KNOWN_AS}")
    with _working_folder_importable():
        module = import_named(module_name, reference)
        factory = getattr(module, factory_name, None)
        if factory is None:
            raise BadValue(f"{reference}: {module_name} has no {factory_name!r}")
        made = factory
        if isinstance(factory, type) or not hasattr(factory, "act"):
            made = _make_policy(reference, factory)
    if is_jittable(made) or callable(getattr(made, "act", made)):
        return FactoryPolicy(reference, made)
    raise BadValue(
        f"{reference}: the factory gives a {type(made).__name__}; it needs an object with "
        "act(observations [N, O]), or such a function"
    )


def _make_policy(reference: str, factory: Any) -> Any:
    """Return what a factory makes. Raises BadValue, in one line, where it fails."""
    try:
        return factory()
    except IsthmusError:
        raise
    except Exception as error:
        raise BadValue(
            f"{reference}: a factory is called without arguments; it raises {describe_error(error)}"
        ) from error


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """Find modules also in the folder where the command is given, as `python -m` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _hash_files(path: Path) -> str:
    """Return the SHA-256 of a model, and of the second file with its weights if there is one."""
    digest = hashlib.sha256(path.read_bytes())
    weights = path.with_name(path.name + ".data")
    if weights.is_file():
        digest.update(weights.read_bytes())
    return digest.hexdigest()
