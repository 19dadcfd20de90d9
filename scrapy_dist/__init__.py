"""Scrapy workers that share one frontier in Redis."""

from __future__ import annotations

__version__ = "0.1.0"
