"""Evaluation on NumPy: metrics, groups, intervals, calibration, baselines.

A table is a dict of NumPy arrays with a row per example: labels, answers and
how far apart they are. Everything here reads a table or writes columns of one.
"""
