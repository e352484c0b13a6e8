"""Files and bytes to frames."""
