"""A training run: its steps, validation, checkpoints, precision, processes, and what is shown."""
