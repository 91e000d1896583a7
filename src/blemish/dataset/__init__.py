"""Images and their annotations: reading any layout, splitting, checking, writing."""
