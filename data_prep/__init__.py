"""data_prep: from rasters to labelled, sharded records.

`python -m data_prep.build` is the command. The way of a patch:

  rasters.py  global rasters, found, checked, downloaded
  earth.py    the sources that cut them into GeoTIFF tiles
  tiles.py    tiles as they are read, and tile_writer.py as they are written;
              grids.py  where their pixels lie
  places.py   which patches of a tile become records, by the rule of
              splits.py  which split a place belongs to
              labels.py  which climate it has
  records.py  what a record holds; shards of them
  geo_tiles.py  the TFDS builder: tiles in, records out
  build.py    the command

Nothing here imports JAX or TensorFlow.
"""
