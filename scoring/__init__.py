"""Masks and runs to numbers: reading run folders, scores, intervals, and the names of a table's rows."""
