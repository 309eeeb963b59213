"""Studies as rows of strings."""

from __future__ import annotations

import importlib

from isthmus.studies.study import Study
from isthmus.types import UnknownName

STUDIES = {"ppo": "isthmus.studies.ppo", "trpo": "isthmus.studies.trpo", "es-sim2real": "isthmus.studies.es_sim2real",
           "matl": "isthmus.studies.matl", "dap": "isthmus.studies.dap"}  # fmt: skip


def find(name: str) -> Study:
    if name not in STUDIES:
        raise UnknownName("study", name, STUDIES)
    return importlib.import_module(STUDIES[name]).STUDY
