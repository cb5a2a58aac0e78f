#!/usr/bin/env python3
"""Run a real study whose second and third trial find too little memory; print what its storage then holds.

    pruned_study.py DATABASE

The memory left is what this script says, of a cgroup laid out in files beside the database.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from supervisor.guard.brake import MemoryMonitor
from supervisor.guard.room import Roots, smallest_room

GIB = 1 << 30
LIMIT = 8 * GIB
LEFT_GIB = (6.0, 1.5, 1.9, 2.0)

optuna: Any = importlib.import_module("optuna")  # by name: it is not in the type checkers' environment
database = Path(sys.argv[1])
tree = database.parent
roots = Roots(str(tree / "proc"), str(tree / "cgroup"), {})
monitor = MemoryMonitor(read=lambda: smallest_room(roots))


def leave(left_gib: float) -> None:
    """Lay out a host with plenty, and a cgroup with so much."""
    files = {
        "proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB\n",
        "proc/self/cgroup": "0::/study\n",
        "cgroup/study/memory.max": f"{LIMIT}\n",
        "cgroup/study/memory.current": f"{int(LIMIT - left_gib * GIB)}\n",
        "cgroup/study/memory.stat": "inactive_file 0\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


def objective(trial: Any) -> float:  # noqa: ANN401
    """Train for one epoch, as it were."""
    x: float = trial.suggest_float("x", 0, 1)
    number: int = trial.number
    leave(LEFT_GIB[number])
    monitor.check(trial, "epoch 1")
    return x


optuna.logging.set_verbosity(optuna.logging.WARNING)
storage = f"sqlite:///{database}"
optuna.create_study(study_name="study", storage=storage).optimize(objective, n_trials=len(LEFT_GIB))

stored = optuna.load_study(study_name="study", storage=optuna.storages.RDBStorage(storage))
json.dump([{"state": trial.state.name, **trial.user_attrs} for trial in stored.trials], sys.stdout)
