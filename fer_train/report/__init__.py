"""Runs, data and answers as Markdown, pages and pictures."""
