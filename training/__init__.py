"""One training run: steps, validation, checkpoints, precision, several processes, and what is shown meanwhile."""
