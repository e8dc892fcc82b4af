"""Bulk import: a function of the user's runs in many processes, and what it yields is staged whole or not at all."""
