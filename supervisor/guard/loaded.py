"""The frameworks that a worker has loaded; the guard imports none of them."""

import sys
from collections.abc import Mapping
from typing import Any

Modules = Mapping[str, Any]


def loaded(name: str, modules: Modules = sys.modules) -> Any | None:  # noqa: ANN401 - it has no types here
    """Return a module, or None where it is not there, or some thread still imports it and half is missing."""
    module = modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if getattr(spec, "_initializing", False) else module  # by which `import` itself tells
