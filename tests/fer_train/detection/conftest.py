from contextlib import contextmanager

import pytest


@pytest.fixture(scope="session")
def run_eagerly():
    """A context where TensorFlow's functions run as they are: a few steps are faster so."""
    tensorflow = pytest.importorskip("tensorflow")

    @contextmanager
    def eager():
        tensorflow.config.run_functions_eagerly(True)
        yield
        tensorflow.config.run_functions_eagerly(False)

    return eager


@pytest.fixture
def eagerly(run_eagerly):
    with run_eagerly():
        yield
