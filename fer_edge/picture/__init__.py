"""Folders of pictures in batches, and faces drawn into pictures."""
