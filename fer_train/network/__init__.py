"""Keras models: built, loaded, averaged, and the device that they run on."""
