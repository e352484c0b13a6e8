"""Trained models to ONNX files with their facts, cards and digests."""
