"""The web face: its own unprivileged process, a client of the control socket only."""
