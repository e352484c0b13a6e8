"""Models on onnxruntime: faces are found, cut out and classified."""
