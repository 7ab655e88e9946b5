"""Speed beside what people use today: ratios of two things that are measured in turn."""
