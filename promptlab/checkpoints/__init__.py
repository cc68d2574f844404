"""Model files: the architectures that promptlab knows, and what lies on this disk."""
