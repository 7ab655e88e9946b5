"""Numbers to Table 1, the figures and the page."""
