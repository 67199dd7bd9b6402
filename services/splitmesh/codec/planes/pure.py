"""Owns the plane coder in plain Python: the mirror of `_core.c`, bit by bit, for machines without a compiler.

Some hundred times slower than its twin. `encode`, `decode` and `cells` are those of `_native`.
"""
