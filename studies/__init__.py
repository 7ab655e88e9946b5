"""Beyond Table 1: the paper's claims, what explains the method, and other losses beside it."""
