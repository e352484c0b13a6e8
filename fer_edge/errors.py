"""Every error that a user of fer-edge or fer-train can cause, under one root.

    FerError
    ├── DependencyError   a package or system library is missing, doubled or unusable
    ├── ModelError        an ONNX file that cannot be found, read, trusted or run
    ├── ProviderError     an execution provider that was asked for and is not there
    ├── ImageError        a picture that cannot be read or is beyond the limits
    ├── DetectorError     a face detector or its model that cannot be used
    ├── SourceError       a camera, video file or stream that cannot be opened or has stopped
    ├── OutputError       a result that cannot be written
    ├── DataError         a data set that is not what the trainer expects
    ├── RunError          a run folder that is locked, incomplete or of another training
    │   └── DivergedError a training whose loss is no number any more
    └── ExportError       a model that did not pass the gates between Keras and ONNX

Each takes one message, so that it survives pickling to worker processes. On the command line click
prints ``Error: MESSAGE`` and exits with 1; wrong flags are ``click.BadParameter`` and exit with 2.
Mistakes of the calling program (a wrong dtype, a negative size) are ``ValueError`` instead.
"""

import click


class FerError(click.ClickException):
    """Root of all errors that a user can cause and mend."""

    def __str__(self) -> str:
        """Return the message; it says what was expected, what was received and what to do."""
        return self.message


class DependencyError(FerError):
    """A package or system library is missing, doubled or unusable."""


class ModelError(FerError):
    """An ONNX file cannot be found, read, trusted or run."""


class ProviderError(FerError):
    """An execution provider was asked for and is not there."""


class ImageError(FerError):
    """A picture cannot be read or is beyond the limits."""


class DetectorError(FerError):
    """A face detector or its model cannot be used."""


class SourceError(FerError):
    """A camera, video file or stream cannot be opened or has stopped."""


class OutputError(FerError):
    """A result cannot be written."""


class DataError(FerError):
    """A data set is not what the trainer expects."""


class RunError(FerError):
    """A run folder is locked, incomplete or belongs to another training."""


class DivergedError(RunError):
    """The loss of a training is no number any more."""


class ExportError(FerError):
    """A model did not pass the gates between Keras and ONNX."""
