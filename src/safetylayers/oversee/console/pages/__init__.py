"""The console's handlers, a file a page."""
