"""Raw scans to the data folder: finding, fetching, checking and resampling, and synthetic scans."""
