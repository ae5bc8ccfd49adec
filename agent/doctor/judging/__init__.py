"""Judging what was seen: pure functions, facts to findings."""
