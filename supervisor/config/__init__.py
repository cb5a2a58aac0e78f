"""YAML becomes a plan: every fault at once, with its line."""

from supervisor.config.difference import difference
from supervisor.config.fault import Fault
from supervisor.config.load import Loaded, load
from supervisor.config.machine import Machine, this_machine
from supervisor.config.schema import schema

__all__ = ["Fault", "Loaded", "Machine", "difference", "load", "schema", "this_machine"]
