"""Configs: each says how it differs from `geojax.training.config`."""
