"""Search spaces, trials and export on Ray Tune. Empty so far; the source root and its place in the wheel are fixed."""
