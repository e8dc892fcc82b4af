"""Servers and settings around the package; never installed with it."""
