"""The commands of ``fer-train``, a family to a file: they parse, call and print.

Keras and what it brings are imported inside the commands, so that ``--help`` is there at once.
"""
