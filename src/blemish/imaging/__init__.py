"""Images as arrays: reading, resizing, locating the part, tiles, and the scale from pixels to millimetres."""
