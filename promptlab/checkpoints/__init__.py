"""Model files: the families that promptlab knows, and what lies on this disk."""
