"""The command line and the flows' own arithmetic."""
