"""The web face: an unprivileged process that shows what the daemon tells over its control socket."""
