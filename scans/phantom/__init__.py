"""Synthetic scans in the layouts of the three challenges: python -m scans.phantom."""
