"""Masks and runs to numbers: run folders, scores, intervals, the names of a table's rows."""
