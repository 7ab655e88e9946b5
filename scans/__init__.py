"""Raw scans to the data folder: finding, fetching, reading, checking, resampling, and synthetic ones."""
