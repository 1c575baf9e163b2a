"""Pure pieces of the method: torch and numpy only; no Ray, no input or output, no global randomness."""
