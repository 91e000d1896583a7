"""The web pages of a station, one file a page."""
