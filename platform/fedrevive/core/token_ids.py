"""Token ids that every tokenizer of the package agrees on. No torch."""

PADDING = 0
"""A place without a token; its row of an embedding table is never read."""
UNKNOWN = 1
"""What the vocabulary lacks."""
FIRST_FREE = 2
"""The vocabulary's own ids start here."""
