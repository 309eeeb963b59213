"""How jax is set up: as soon as it is imported, by whomever, for it takes these options only before
it computes anything. `import isthmus` does not import it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec


def set_options_on_import() -> None:
    """Set jax's options, at once where it is imported, else when it is."""
    if "jax" in sys.modules:
        import jax  # where another thread imports it now, this waits

        _set_options(jax)
    else:
        sys.meta_path.insert(0, _JaxFinder())


def _set_options(jax: Any) -> None:
    # Physics waits for each call of a policy, and to hand so short a one to another thread takes
    # longer than the call; two threads' calls would also run one after the other there. No bit
    # depends on it. JAX 0.10 reads no environment variable for it; what a later one reads stays.
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    from isthmus.compile_cache import enable_compile_cache

    enable_compile_cache(jax)


class _JaxFinder:
    """Finds jax as the other finders do; once it is loaded, its options are set."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "jax":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._set_options_after(spec.loader)
                return spec
        return None

    def _set_options_after(self, loader: Loader) -> None:
        """Let a loader set the options as soon as it has loaded jax."""
        load = loader.exec_module

        def load_and_set_options(module: ModuleType) -> None:
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _set_options(module)

        loader.exec_module = load_and_set_options
