import click
from click.testing import CliRunner

from fer_edge._base.sections import SectionedCommand, section


def test_options_stand_under_their_headings_in_order():
    @click.command(cls=SectionedCommand)
    @section(
        "Faces", click.option("--size", help="Smallest."), click.option("--tilt", help="Most.")
    )
    @section("Output", click.option("--file"))
    @section("Faces", click.option("--mirror", is_flag=True))
    def command(size, tilt, file, mirror):
        click.echo(f"{size} {tilt} {file} {mirror}")

    text = CliRunner().invoke(command, ["--help"]).output
    words = text.split()
    order = ["Faces:", "--size", "--tilt", "--mirror", "Output:", "--file", "Others:", "--help"]
    places = [words.index(word) for word in order]
    assert places == sorted(places)
    assert CliRunner().invoke(command, ["--tilt", "3", "--mirror"]).output == "None 3 None True\n"


def test_without_headings_help_is_as_usual():
    @click.command(cls=SectionedCommand)
    @click.option("--size")
    def command(size):
        pass

    assert "\nOptions:\n" in CliRunner().invoke(command, ["--help"]).output
