"""The commands: where geojax and data_prep meet."""
