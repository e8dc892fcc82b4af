"""The proof that a repository holds what plain dicts hold, whatever is done to it."""
