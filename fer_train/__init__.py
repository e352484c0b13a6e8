"""Training of the models that fer_edge runs: FER-2013, k-fold cross-validation, export to ONNX."""
