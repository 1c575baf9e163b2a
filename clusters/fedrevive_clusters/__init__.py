"""Launch files for clusters. Empty so far; the source root and its place in the wheel are fixed."""
