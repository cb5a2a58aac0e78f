#!/usr/bin/env python3
"""Search for the best size of a model with Optuna, and prune a trial before memory is gone.

    optuna_study.py DATABASE [--trials 20] [--rows 20000] [--safe-gb 2] [--warning-gb 4]

Each trial fits a ridge regression on random features, as many as Optuna suggests: more are better, and take
more memory. A trial that would leave less than `--safe-gb` is pruned, and DATABASE keeps why; one that runs
out of memory is fitted again with less. What is left counts by the machine, the cgroup and the worker's cap,
whichever is nearest. A study that was ended goes on where it was. It needs optuna, which brings NumPy.

It runs without a supervisor too, and ends when it is done. As a worker of gpu-supervisor, in
`etc/examples/workers.yaml`, it then stays until it is told to stop: a worker that ends is started again.
"""
# pyright: basic, reportMissingImports=false

import argparse
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from supervisor.guard import MemoryManager, check_memory, supervised

INPUTS = 8
BLOCK = 1000  # rows; memory is checked, and a heartbeat sent, before each


class Study:
    """The data, and how a trial goes about it."""

    def __init__(self, given: argparse.Namespace, memory: MemoryManager) -> None:
        """Draw the data: a smooth function of eight inputs."""
        draw = np.random.default_rng(0)
        self.given = given
        self.memory = memory
        self.inputs = draw.normal(size=(given.rows, INPUTS))
        self.targets = np.sin(self.inputs[:, 0]) * self.inputs[:, 1] + np.cos(self.inputs.sum(axis=1))

    def objective(self, trial: optuna.Trial) -> float:
        """Return the error of one model."""
        width = trial.suggest_int("width", 64, 2048, log=True)
        ridge = trial.suggest_float("ridge", 1e-3, 1e3, log=True)
        self.memory.reset_degradation()  # what one trial had to do without says little of the next
        # The first time with nothing advised. Memory ran out: again, with an advice to make do with less.
        return self.memory.attempt(
            lambda advice: self.fit(trial, width, ridge, keep=advice.batch_size is None)
        )

    def fit(self, trial: optuna.Trial, width: int, ridge: float, *, keep: bool) -> float:
        """Fit and return the mean squared error; the features are kept from one pass to the next, or not."""
        kept = list(self.blocks(trial, width)) if keep else None
        square, product = ridge * np.eye(width), np.zeros(width)
        for features, targets in kept or self.blocks(trial, width):
            square += features.T @ features
            product += features.T @ targets
        weights = np.linalg.solve(square, product)
        errors = [
            np.sum((features @ weights - targets) ** 2)
            for features, targets in kept or self.blocks(trial, width)
        ]
        return float(sum(errors) / self.given.rows)

    def blocks(self, trial: optuna.Trial, width: int) -> Iterator[tuple[Any, Any]]:
        """Make the features of so many rows at a time."""
        directions = np.random.default_rng(1).normal(size=(INPUTS, width))
        for at in range(0, self.given.rows, BLOCK):
            supervised().heartbeat()
            # Raises TrialPruned, which Optuna notes, before the system gets into trouble.
            check_memory(trial, f"width {width}, row {at}", self.given.safe_gb, self.given.warning_gb)
            rows = slice(at, at + BLOCK)
            yield np.cos(self.inputs[rows] @ directions), self.targets[rows]


def finished(study: optuna.Study) -> int:
    """Count the trials that have an end; one that a killed process has left behind has none."""
    return sum(trial.state.is_finished() for trial in study.trials)


def main() -> None:
    """Run the trials that are still to be run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--safe-gb", type=float, default=2.0)
    parser.add_argument("--warning-gb", type=float, default=4.0)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)  # the guard says there what it does
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    memory = MemoryManager("cpu")
    supervisor = supervised()
    supervisor.watch(memory)
    supervisor.ready()

    def after(study: optuna.Study, _trial: object) -> None:
        done = finished(study)
        state = "completed" if done >= given.trials else "processing"
        supervisor.progress(job="study", state=state, done=done, total=given.trials)
        if supervisor.draining or stopping.is_set():
            study.stop()  # this trial is stored: nothing is lost

    storage = f"sqlite:///{given.database}"
    study = optuna.create_study(study_name="width", storage=storage, load_if_exists=True)
    # In this thread, and one trial at a time: several would each take what the other has just checked for.
    left = max(0, given.trials - finished(study))
    study.optimize(Study(given, memory).objective, n_trials=left, callbacks=[after], catch=(MemoryError,))
    while supervisor.active and not (supervisor.draining or stopping.is_set()):
        supervisor.heartbeat()
        stopping.wait(1.0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor's next step; this process ends already
    supervisor.drained()


if __name__ == "__main__":
    main()
