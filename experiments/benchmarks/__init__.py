"""Benchmarks, see docs/benchmarks.md; run with `python -m`."""
