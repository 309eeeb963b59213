#!/usr/bin/env bash
# pytest-xdist 3.8.0 under pytest 9.2.0: `--dist loadgroup` no longer keeps the tests of an xdist_group in one process. xdist hands
# a group on by appending it to the test's id in the workers; pytest 9.2 keeps that id elsewhere, so that the scheduler sees the plain
# one and takes each test for a group of its own. Nothing is raised. Under pytest 9.1 and before, a group stays together. Who
# keeps what is dear in a process (compiled programs, a simulator, a device) pays for it in every worker.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/test_groups.py" <<'PY'
import os
import time

import pytest


@pytest.mark.parametrize("row", range(12))
@pytest.mark.xdist_group("together")
def test_row(row):
    time.sleep(0.1)
    with open(os.environ["SEEN"], "a") as file:
        file.write(f"{os.getpid()}\n")
PY
for version in 9.1.0 9.2.0; do
    "$folder/venv/bin/pip" -q install --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0
    export SEEN="$folder/seen-$version"
    (cd "$folder" && "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup test_groups.py > /dev/null)
    echo "pytest $version, pytest-xdist 3.8.0: a group of 12 tests ran in $(sort -u "$SEEN" | wc -l) process(es)"
done
test "$(sort -u "$folder/seen-9.1.0" | wc -l)" = 1
test "$(sort -u "$folder/seen-9.2.0" | wc -l)" = 2 || { echo "the behaviour has changed"; exit 1; }
