"""Runs, data and predictions as Markdown, pages and pictures."""
