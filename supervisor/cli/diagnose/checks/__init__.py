"""From facts to findings, each family in a module of its own; pure."""
