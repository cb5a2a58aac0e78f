"""The daemon: the loop, what it keeps and tells, and whom it listens to."""
