"""NVIDIA GPUs: every driver call in a helper process (`helper`), its client in the loop (`sensor`).

The package imports nothing: the helper is a part of it and has to stay small.
"""
