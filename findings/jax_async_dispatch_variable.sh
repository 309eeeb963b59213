#!/usr/bin/env bash
# jax 0.10.2 has a setting jax_cpu_enable_async_dispatch, but does not read the environment variable of its name,
# JAX_CPU_ENABLE_ASYNC_DISPATCH, as it reads those of its other settings (JAX_DEFAULT_MATMUL_PRECISION, say): the setting stays
# True, nothing is raised, and programs go to the client's one thread. What works is jax.config.update before the first computation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu JAX_CPU_ENABLE_ASYNC_DISPATCH=false JAX_DEFAULT_MATMUL_PRECISION=highest "$folder/venv/bin/python" - <<'PY'
import jax

print("jax", jax.__version__)
seen = {
    "JAX_DEFAULT_MATMUL_PRECISION=highest": jax.config.jax_default_matmul_precision,
    "JAX_CPU_ENABLE_ASYNC_DISPATCH=false": jax.config.read("jax_cpu_enable_async_dispatch"),
}
for text, value in seen.items():
    print(f"  {text:40} the setting is {value!r}")
jax.config.update("jax_cpu_enable_async_dispatch", False)
after = jax.config.read("jax_cpu_enable_async_dispatch")
print(f"  {'jax.config.update(..., False)':40} the setting is {after!r}")
assert [*seen.values(), after] == ["highest", True, False], "the behaviour has changed"
PY
