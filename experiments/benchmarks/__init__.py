"""Measurements that the README speaks of; run with `python -m`."""
