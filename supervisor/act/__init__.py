"""Carries out what was decided: decides nothing, waits for nothing."""
