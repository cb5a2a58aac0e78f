"""Warnings: what can work, and most likely is not what was meant."""

import grp
import pwd
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Final
from urllib.parse import urlsplit

from supervisor.config.build import bases_of
from supervisor.config.fault import Path, Report, quoted
from supervisor.config.lint_servers import lint_server
from supervisor.config.machine import Machine
from supervisor.config.presets import filled, ports_of
from supervisor.config.shape import ConfigShape
from supervisor.model.fit import is_llama_server
from supervisor.model.plan import DrainRule, HealthRule, HttpTarget, LlamaTarget, Plan, TcpTarget, WorkerPlan
from supervisor.model.quantity import format_percent, format_size, format_span
from supervisor.model.template import names_in

_STANDSTILL_LOOKS: Final = 3  # a llama.cpp server that stands still between two looks may only be slow
_LONGEST_STOP_S: Final = 90 * 60.0
_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)(?:$|_)",
    re.IGNORECASE,
)
_SECRET_FLAG: Final = re.compile(r"--?(?:[a-z-]+-)?(?:api-key|token|password|secret)(?:=.+)?", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(
    r"(?:hf_|sk-|ghp_|github_pat_|glpat-|xox[bp]-|AKIA)[A-Za-z0-9_-]{12,}|-----BEGIN "
)
_NO_GPU: Final = {"any": "not written, so that nobody knows on which it will be", "none": "none"}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def lint(shape: ConfigShape, plan: Plan, machine: Machine, report: Report) -> None:
    """Add every warning to the report. `plan` is free of faults."""
    _lint_machine(plan, machine, report)
    _lint_ports(plan, report)
    _lint_web(plan, report)
    for base, replicas in bases_of(plan.workers).items():
        worker, path = replicas[0], ("workers", base)
        _lint_secrets(worker, path, report)
        _lint_times(worker, path, report)
        _lint_program(worker, path, machine, report)
        _lint_settings(worker, path, report)
        _lint_worker_on_machine(worker, path, machine, report)
        lint_server(worker, path, report)
        if len({*shape.workers[base].after}) < len(shape.workers[base].after):
            report.warn((*path, "after"), "names a worker twice")


def _lint_web(plan: Plan, report: Report) -> None:
    file = plan.web.token_file
    if plan.web.host not in _LOOPBACK and file is None:
        why = (
            "whoever reaches this address could restart workers: the web face does not start without a token"
        )
        report.warn(("web", "listen"), why)
    if file is not None and File(file).stat().st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        why = "others may read or change it: the web face refuses such a token; chmod 0640"
        report.warn(("web", "token_file"), why)


def _lint_machine(plan: Plan, machine: Machine, report: Report) -> None:
    total = machine.memory_total_bytes
    if total is None:
        return
    for key, floor in (
        ("critical_available", plan.host.critical_available_bytes),
        ("warn_available", plan.host.warn_available_bytes),
    ):
        if floor >= total:
            why = f"{format_size(floor)} is never available: the machine has {format_size(total)}"
            report.warn(("host", key), why)
    caps = sum(worker.memory.cap_bytes or 0 for worker in plan.workers.values())
    if caps > total:
        why = f"their memory caps add up to {format_size(caps)}, and the machine has {format_size(total)}"
        report.warn(("workers",), why)


def _lint_worker_on_machine(worker: WorkerPlan, path: Path, machine: Machine, report: Report) -> None:
    cores, quota = machine.cores, worker.cpu_quota
    if cores is not None and quota is not None and quota > cores:
        why = f"{format_percent(quota)} is more than the machine's {cores} cores: it limits nothing"
        report.warn((*path, "cpu", "quota"), why)
    if worker.vram_cap_bytes is not None and worker.gpus.kind == "none":
        report.warn((*path, "vram", "cap"), "never counts: gpus is none")
    if worker.needs.vram_bytes is not None and worker.gpus.kind in {"any", "none"}:
        report.warn((*path, "needs", "vram"), f"never counts: gpus is {_NO_GPU[worker.gpus.kind]}")
    total, need = machine.memory_total_bytes, worker.needs.memory_bytes
    if total is not None and need is not None and need > total:
        why = (
            f"{format_size(need)} is more than the machine has, {format_size(total)}: it would wait for ever"
        )
        report.warn((*path, "needs", "memory"), why)
    if worker.gpus.kind != "any" and "CUDA_VISIBLE_DEVICES" in worker.environment:
        report.warn((*path, "environment", "CUDA_VISIBLE_DEVICES"), "is overwritten by gpus")


def _lint_ports(plan: Plan, report: Report) -> None:
    """Find workers that cannot all listen. Replicas are told once for all of them."""
    owners: dict[int, WorkerPlan] = {}
    told: set[tuple[str, str]] = set()
    for worker in plan.workers.values():
        for port in _ports(worker):
            owner = owners.setdefault(port, worker)
            pair = (owner.base, worker.base)
            if owner.name == worker.name or pair in told:
                continue
            told.add(pair)
            if owner.base == worker.base:
                why = f"its replicas all use port {port}: write {{port}}, with a setting port"
            else:
                why = f"uses port {port}, and so does {owner.name}"
            report.warn(("workers", worker.base), why)


def _ports(worker: WorkerPlan) -> frozenset[int]:
    """Return the ports of this machine that a worker listens on, as far as they can be seen."""
    command = filled(worker.command, worker.settings, worker.replica)
    found = {int(port) for port in ports_of(command) if port.isascii() and port.isdigit() and len(port) < 6}  # noqa: PLR2004
    for rule in (worker.ready, worker.health, worker.drain):
        target = rule.target if isinstance(rule, HealthRule | DrainRule) else rule
        if isinstance(target, TcpTarget) and target.host in _LOOPBACK:
            found.add(target.port)
        if isinstance(target, HttpTarget | LlamaTarget):
            parts = urlsplit(target.url)
            if parts.hostname in _LOOPBACK and parts.port is not None:
                found.add(parts.port)
    return frozenset(found - {0})


def _lint_secrets(worker: WorkerPlan, path: Path, report: Report) -> None:
    """Warn of secrets in the file, which people of less trust may read; never show the value."""
    for name, value in worker.environment.items():
        if value and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
            report.warn((*path, "environment", name), "looks like a secret; put it into environment_file")
    for index, word in enumerate(worker.command):
        if _SECRET_VALUE.search(word) or (_SECRET_FLAG.fullmatch(word) and not names_in(word)):
            why = "looks like a secret, and everybody sees a command; put it into environment_file"
            report.warn((*path, "command", index), why)
    if worker.environment_file is not None and _readable_by_all(worker.environment_file):
        report.warn((*path, "environment_file"), "every user of the machine can read it: chmod 600")


def _readable_by_all(name: str) -> bool:
    try:
        return bool(File(name).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _lint_times(worker: WorkerPlan, path: Path, report: Report) -> None:
    for key, why in _odd_times(worker):
        report.warn((*path, *key), why)


def _odd_times(worker: WorkerPlan) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (key, why) of times that do not go together."""
    health, stop_s = worker.health, worker.stop_timeout_s
    llama = health is not None and isinstance(health.target, LlamaTarget)
    if health is not None and llama and health.timeout_s < _STANDSTILL_LOOKS * health.interval_s:
        yield ("health", "timeout"), f"is judged by less than {_STANDSTILL_LOOKS} looks: lengthen it"
    if health is not None and not llama and health.timeout_s > health.interval_s:
        yield ("health", "timeout"), f"is longer than interval, {format_span(health.interval_s)}"
    if worker.stop_again_s is not None and worker.stop_again_s >= stop_s:
        yield ("stop_again",), f"is never sent: SIGKILL comes after stop_timeout, {format_span(stop_s)}"
    whole_s = stop_s + (worker.drain.timeout_s if worker.drain is not None else 0.0)
    if whole_s > _LONGEST_STOP_S:
        yield ("stop_timeout",), f"a stop may take {format_span(whole_s)}, draining included"
    age_s = worker.max_age_s
    if age_s is not None and age_s <= worker.start_timeout_s:
        yield ("max_age",), f"is not longer than start_timeout, {format_span(worker.start_timeout_s)}"
    if age_s is not None and age_s <= worker.breach.warm_up_s and worker.memory.cap_bytes is not None:
        yield ("max_age",), "is not longer than breach.warm_up: no cap ever counts"


def _lint_program(worker: WorkerPlan, path: Path, machine: Machine, report: Report) -> None:
    program = filled(worker.command[:1], worker.settings, worker.replica)[0]
    if "/" in program:
        place = File(worker.directory or ".") / program
        if not place.is_file():
            report.warn((*path, "command"), f"there is no program {quoted(program)}")
    else:
        search_path = worker.environment.get("PATH", machine.search_path)
        if search_path is not None and shutil.which(program, path=search_path) is None:
            report.warn((*path, "command"), f"there is no program {quoted(program)} on PATH")
    for key, who, exists in (("user", worker.user, _is_user), ("group", worker.group, _is_group)):
        if who is not None and not exists(who):
            report.warn((*path, key), f"there is no {key} {quoted(who)} on this machine")


def _is_user(name: str) -> bool:
    try:
        return name.isdigit() or bool(pwd.getpwnam(name))
    except (KeyError, ValueError):
        return False


def _is_group(name: str) -> bool:
    try:
        return name.isdigit() or bool(grp.getgrnam(name))
    except (KeyError, ValueError):
        return False


def _lint_settings(worker: WorkerPlan, path: Path, report: Report) -> None:
    """Warn of rungs with settings that nothing uses, and of those that change nothing."""
    used = _used(worker.command, worker.environment)
    settings = dict(worker.settings)
    for index, rung in enumerate(worker.ladder):
        at = (*path, "ladder", index)
        if rung and not rung.keys() & used:
            report.warn(at, "changes nothing: neither command nor environment uses its settings")
        elif all(settings.get(name) == value for name, value in rung.items()):
            report.warn(
                at, "changes nothing: the rungs before it have come to the same, so it is passed over"
            )
        else:
            for name in sorted(rung.keys() - used):
                report.warn((*at, name), "is used by neither command nor environment")
        settings |= rung
    makes = worker.makes_ladder and is_llama_server(worker.preset, worker.command)
    if worker.climb_after_s is not None and not worker.ladder and "n_gpu_layers" not in used and not makes:
        report.warn((*path, "climb_after"), "never counts: there is no ladder")


def _used(command: Sequence[str], environment: Mapping[str, str]) -> frozenset[str]:
    return frozenset[str]().union(*(names_in(text) for text in (*command, *environment.values())))
