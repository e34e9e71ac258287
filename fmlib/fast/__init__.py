"""Exact but faster layers and steps: without this folder every result but the time stays the same."""
