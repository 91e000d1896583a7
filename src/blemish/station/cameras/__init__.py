"""Cameras: GenICam by Aravis or Harvesters, OpenCV's devices and video files, and vendors' by plug-ins."""
