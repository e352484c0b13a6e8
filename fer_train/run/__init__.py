"""The run folder: settings, folds and scores."""
