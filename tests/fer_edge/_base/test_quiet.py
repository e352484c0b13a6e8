"""``--quiet``, which the commands read for all that is logged while they run."""

import logging
import threading

import click

from fer_edge._base.command import CommandGroup


def test_quiet_hushes_warnings_of_all_threads_and_no_error(capfd):
    group = CommandGroup("group")

    @group.command()
    @click.option("--quiet", is_flag=True)
    def warn(quiet):
        logger = logging.getLogger("fer_edge.somewhere")
        for level, text in ((logging.WARNING, "a warning"), (logging.ERROR, "an error")):
            thread = threading.Thread(target=logger.log, args=(level, text))
            thread.start()
            thread.join()

    group(["warn"], standalone_mode=False)
    assert capfd.readouterr().err == "a warning\nan error\n"
    group(["warn", "--quiet"], standalone_mode=False)
    assert capfd.readouterr().err == "an error\n"
    group(["warn"], standalone_mode=False)
    assert capfd.readouterr().err == "a warning\nan error\n"
