import pytest


@pytest.fixture
def eagerly():
    """Run TensorFlow's functions as they are: for a few steps, compiling them takes longer."""
    tensorflow = pytest.importorskip("tensorflow")
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)
