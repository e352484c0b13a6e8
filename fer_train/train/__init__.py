"""Folds: taught, checkpointed, resumed, and spread over processes and machines."""
