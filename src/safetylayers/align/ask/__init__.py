"""Asking people which of two replies is better: what to ask, how, and keeping every answer."""
