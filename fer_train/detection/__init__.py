"""The face detector: its pictures, training tiles, network, loss, training and evaluation.

Built as the emotion models are, on Keras 3, whichever back end runs it. It stands beside the
training of emotions and shares no code with it but what lies below both.
"""
