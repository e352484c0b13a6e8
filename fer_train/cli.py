"""The command line ``fer-train``: its commands stand in ``fer_train.commands``."""

from pathlib import Path

import click

from fer_edge import __version__
from fer_edge._base.command import CommandGroup
from fer_edge._base.findings import print_findings
from fer_train.commands.data import explore, prepare
from fer_train.commands.detector import detector
from fer_train.commands.distill import distill
from fer_train.commands.export import cards, export, quantize
from fer_train.commands.options import run_option
from fer_train.commands.report import compare, predict, report
from fer_train.commands.training import fold, plan, settings, train_all
from fer_train.commands.tune import tune


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fer-train")
def main() -> None:
    """Train facial emotion models on FER-2013 by cross-validation and export them to ONNX."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@run_option
def doctor(as_json: bool, run_folder: Path) -> None:
    """Check what training needs: devices, precision, memory, disk."""
    from fer_train.doctor import examine

    print_findings(examine(run_folder), as_json=as_json)


for _command in (
    *(plan, fold, train_all, settings, tune, distill, detector),
    *(explore, prepare, report, compare, predict, export, quantize, cards),
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
