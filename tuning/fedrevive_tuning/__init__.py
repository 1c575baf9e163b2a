"""Search spaces, trials and export on Ray Tune (built by a later milestone; the root exists so that the wheel layout is fixed)."""
