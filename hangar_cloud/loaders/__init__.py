"""Feeding samples to training: map-style datasets, and streams of batches that are shuffled, sharded and resumed.

``order``, ``shares`` and ``progress_state`` are pure: which samples come when, and to whom. The others read.
"""
