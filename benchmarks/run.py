"""`make bench`: Isthmus beside its peers. Each comparison in one run, in turns, medians of the
ratios pair by pair.

    python benchmarks/run.py [environment_steps] [ppo_training] [trpo_training] [recurrent_training]
    [sac_updates] [...]

Without names all of them. What was measured takes the place of the same comparisons in
benchmarks/latest.json. Ends with status 1 where a ratio misses its bar.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import dap_rounds
import environment_steps
import es_generation
import identification
import landscapes
import matl_rounds
import member_updates
import ppo_training
import recurrent_training
import robots
import runner
import sac_updates
import startup
import trpo_training
from measure import Row, console, report
from sb3 import Peer, PeerError

from isthmus.training.run import versions

LATEST = Path(__file__).parent / "latest.json"
COMPARISONS: dict[str, Callable[[Peer], Iterable[Row]]] = {
    "environment_steps": lambda peer: environment_steps.compare(environment_steps.Sizes()),
    "ppo_training": lambda peer: ppo_training.compare(ppo_training.Sizes(), peer),
    "trpo_training": lambda peer: trpo_training.compare(trpo_training.Sizes(), peer),
    "recurrent_training": lambda peer: recurrent_training.compare(recurrent_training.Sizes(), peer),
    "sac_updates": lambda peer: sac_updates.compare(sac_updates.Sizes(), peer),
    "dap_rounds": lambda peer: dap_rounds.compare(dap_rounds.Sizes()),
    "matl_rounds": lambda peer: matl_rounds.compare(matl_rounds.Sizes()),
    "member_updates": lambda peer: member_updates.compare(member_updates.Sizes()),
    "es_generation": lambda peer: es_generation.compare(es_generation.Sizes()),
    "identification": lambda peer: identification.compare(identification.Sizes()),
    "landscapes": lambda peer: landscapes.compare(landscapes.Sizes(), peer),
    "robots": lambda peer: robots.compare(robots.Sizes()),
    "runner": lambda peer: runner.compare(runner.Sizes()),
    "startup": lambda peer: startup.compare(startup.Sizes()),
}


def main(names: list[str]) -> int:
    if unknown := set(names) - set(COMPARISONS):
        console.print(
            f"no comparison {', '.join(sorted(unknown))}; there are {', '.join(COMPARISONS)}"
        )
        return 2
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(Peer())
            made_by = {**versions(), **peer.ask("versions")}
            found = {name: [*COMPARISONS[name](peer)] for name in names or COMPARISONS}
        except PeerError as error:
            console.print(f"[red]{error}[/red]")
            return 2
    return report(found, made_by, LATEST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
