"""The house in which people work."""

from oversee.identity.conftest import house

__all__ = ["house"]
