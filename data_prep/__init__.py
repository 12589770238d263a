"""data_prep: from rasters to labelled, sharded records.

`python -m data_prep.build` is the command. From source to record:

  sources/         the sources, one file each, which ends in its own config
  tile_source.py   what they share;  configs.py  what a config says
  tiles.py         reads tiles (tile_writer.py writes them);  grids.py  where
                   their pixels lie
  tables.py        what is known of images;  image_files.py  their formats,
                   band_files.py  scenes of a file a band
  places.py        which patches of a tile become records: splits.py  their
                   split,  labels.py  their climate, by climate_maps.py
  tile_patches.py  the pixels of patches (image_patches.py of many images)
  targets.py       labels of one's own, from a table
  pixel_targets.py those of each pixel: map_targets.py  from maps, which
                   map_files.py opens and maps.py samples;  array_targets.py
                   from arrays
  records.py       what a record holds; shards of them
  geo_tiles.py     the TFDS builder: tiles in, records out
  leaks.py         how near to train the other splits lie

Nothing here imports JAX or TensorFlow.
"""
