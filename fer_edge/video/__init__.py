"""Cameras, video files and streams: read, follow faces, record, show."""
