"""The command line `fer-train`, called inside of the test's own process."""

from click.testing import CliRunner, Result

from fer_train.cli import main


def invoke(*arguments: object) -> Result:
    """Run a command of `fer-train` with these words."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
