"""Launch files for clusters (built by a later milestone; the root exists so that the wheel layout is fixed)."""
