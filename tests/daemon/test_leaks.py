"""A real worker that leaks, under a real daemon."""

import json

import pytest

from support.daemon import Daemon, hostile

CONFIG = """
poll_interval: 100ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults: {breach: {samples: 2, of: 3, warm_up: 0s}, stop_timeout: 2s}
workers:
  leaky: {command: COMMAND, gpus: none, memory: {cap: 192M}, leak: {forecast: 6s}}
"""


@pytest.mark.slow
def test_a_worker_that_leaks_is_restarted_before_its_cap(daemon: Daemon) -> None:
    daemon.configure(CONFIG.replace("COMMAND", hostile("leak", "--rate", "5", "--limit", "400")))
    daemon.start()
    shown = daemon.until_worker("leaky", lambda one: one["forecast_s"] is not None, "it has a forecast", 55.0)
    assert 0 <= shown["forecast_s"] < 60
    assert "leaks: reaches its cap in " in daemon.run("status").stdout
    leaky = daemon.until_worker("leaky", lambda one: one["restarts"] >= 1, "it was restarted", 40.0)
    assert leaky["last_restart"]["cause"] == "leak"
    assert "and reaches the cap of 192MiB in " in leaky["last_restart"]["reason"]
    events = [one["event"] for one in daemon.events() if one.get("worker") == "leaky"]
    assert events.index("leak found") < events.index("worker stopping")
    history = json.loads(daemon.run("history", "leaky", "--json").stdout)
    told = [one for one in history["incidents"] if one["id"].endswith("-leak")]
    assert [(one["cause"], one["outcome"]) for one in told] == [("leak", "told")]
