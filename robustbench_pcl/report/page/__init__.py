"""One HTML page with everything."""
