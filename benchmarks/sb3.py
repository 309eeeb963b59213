"""The peer as seen from here: Stable-Baselines3 in `.bench-venv`, a process that answers requests
(peer.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PYTHON = HERE.parent / ".bench-venv" / "bin" / "python"


class PeerError(RuntimeError):
    """The peer's environment is missing, or its process ended (what it said is on stderr)."""


class Peer:
    """A running peer; `ask` names one of peer.py's methods and waits for its answer."""

    def __enter__(self) -> Peer:
        if not PYTHON.exists():
            raise PeerError("the peers' environment is missing: `make bench` makes it")
        command = [str(PYTHON), str(HERE / "peer.py")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        own = {
            k: v for k, v in os.environ.items() if k != "NPROC"
        }  # that one is for our side's jax
        self.process = subprocess.Popen(command, encoding="utf-8", env=own, **pipes)
        return self

    def ask(self, request: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"the peer ended at {request!r} with status {self.process.wait()}")
        return json.loads(line)

    def __exit__(self, *_: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
