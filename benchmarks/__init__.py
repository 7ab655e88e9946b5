"""Speed beside what people use today: python -m benchmarks --help. Ratios of two things measured alternately in one run."""
