"""Reads the world: host memory, process trees, GPUs, probes. Changes nothing and decides nothing."""
