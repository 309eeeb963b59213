"""The papers' studies by name."""

from __future__ import annotations

import importlib

from isthmus.studies.study import Study
from isthmus.types import UnknownName

STUDIES = {
    "ppo": "isthmus.papers.ppo",
    "trpo": "isthmus.papers.trpo",
    "es-sim2real": "isthmus.papers.es_sim2real.study",
    "matl": "isthmus.papers.matl.study",
    "dap": "isthmus.papers.dap.study",
    "off-dynamics": "isthmus.papers.off_dynamics.study",
    "identification": "isthmus.papers.identification.study",
}


def find_study(name: str) -> Study:
    """Return the study of this name. Raises UnknownName."""
    if name not in STUDIES:
        raise UnknownName("study", name, STUDIES)
    return importlib.import_module(STUDIES[name]).STUDY
