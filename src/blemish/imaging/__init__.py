"""Pictures as arrays: reading, resizing, regions of interest, tiles, and the scale from pixels to millimetres."""
