"""promptlab: find out what the words of a text-to-image prompt really do."""

__version__ = "0.1.0"
