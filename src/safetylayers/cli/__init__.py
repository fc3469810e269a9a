"""The command line: one file a command, and here what they share."""

from safetylayers.cli.app import main

__all__ = ["main"]
