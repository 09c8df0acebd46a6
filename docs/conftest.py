"""The browser that the site is looked at with."""

from chromium import browser

__all__ = ["browser"]
