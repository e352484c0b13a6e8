"""Every way to an ONNX file: what it writes beside the file, and what its card says."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from fer_edge.contract import DetectorSpec, ModelSpec
from fer_edge.inference.classifier import Classifier
from fer_train.cli import main
from fer_train.data.load import load_dataset
from fer_train.data.synthetic import synthetic_faces
from fer_train.export import held_out, quantize
from fer_train.export.cards import data_biases
from fer_train.export.facts import read_facts
from fer_train.network._keras import keras
from tests.support.keras_models import save_net
from tests.support.made_votes import drawn_votes, write_drawn_votes
from tests.support.tiny_onnx import save_torch_like_onnx

pytestmark = pytest.mark.tensorflow

LABELS = "angry,disgust,fear,happy,sad,surprise,neutral"
IMAGES, _ = synthetic_faces(20)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_any_keras_classifier_is_brought_to_the_contract(tmp_path: Path) -> None:
    source = save_net(tmp_path / "mine.keras", (64, 64, 3), ends="")
    described = ["--range", "-1,1", "--std", "0.5", "--outputs", "logits", "--margin", "0.1"]
    done = run(
        "export", source, "--labels", LABELS, "--channels", "rgb", *described,
        "--export-dir", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == ["MODELS.md", "SHA256SUMS", "mine.json", "mine.onnx"]
    model = Classifier(tmp_path / "out" / "mine.onnx", detector="none")
    assert (model.spec.input_size, model.spec.color, model.spec.margin) == ((64, 64), "rgb", 0.1)
    assert (model.spec.outputs, model.spec.std, model.spec.mean) == ("probabilities", (1,), (0,))
    (shape,) = (node.type.tensor_type.shape for node in onnx.load(model.model_path).graph.input)
    assert shape.dim[0].dim_param
    frames = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    inputs = (frames[..., ::-1].astype(np.float32) / 127.5 - 1) / 0.5
    net = keras.saving.load_model(source, compile=False)
    wanted = keras.ops.softmax(net.predict(inputs, verbose=0))
    for frame, row in zip(frames, np.asarray(wanted), strict=True):
        (face,) = model(frame)
        np.testing.assert_allclose(list(face.probabilities.values()), row, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        (
            (48, 48, 1),
            ["--labels", "a,b"],
            "for its labels a, b, received probabilities float (?, 7)",
        ),
        ((48, 48, 1), [], "--labels"),
        ((48, 48, 3), ["--labels", LABELS], "--color"),
        ((None, None, 1), ["--labels", LABELS], "--input-size"),
        ((48, 48, 2), ["--labels", LABELS], "(N, height, width, 1 or 3)"),
    ],
)
def test_what_a_keras_file_does_not_tell_is_asked_for(
    tmp_path: Path, shape: tuple[int, ...], arguments: list[str], message: str
) -> None:
    image = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(image)
    net = keras.Model(image, keras.layers.Dense(7, activation="softmax")(x))
    net.save(tmp_path / "mine.keras")
    done = run("export", tmp_path / "mine.keras", *arguments, "--export-dir", tmp_path / "out")
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_logits_that_are_called_probabilities_are_not_written(tmp_path: Path) -> None:
    source = save_net(tmp_path / "mine.keras", ends="")
    done = run("export", source, "--labels", LABELS, "--export-dir", tmp_path / "out")
    assert done.exit_code == 1
    assert "give --outputs logits" in done.stderr
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--int8"], "--int8 needs --data"),
        (["--models", "edge"], "--models is for RUN"),
        (["--fold", "1"], "--fold is for RUN"),
    ],
)
def test_flags_of_a_run_are_refused_for_a_file(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    source = save_net(tmp_path / "mine.keras")
    done = run("export", source, "--labels", LABELS, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.fixture
def facts_folder(tmp_path: Path) -> Path:
    """What a run of another version of the trainer has left of a training."""
    folder = tmp_path / "facts"
    folder.mkdir()
    recipe = {"name": "modern", "epochs": 80, "teacher_weight": 1.0, "normalization": "batch"}
    config = {
        "format": 1,
        "dataset_digest": "c" * 64,
        "protocol": {
            "data": "somewhere/fer2013.zip", "limit": None, "pool": "all", "drop": [],
            "folds": 1, "grouping": "none", "inner": 0.02, "seed": 12,
        },
        "models": {"vgg16": recipe},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n")
    scores = {"accuracy": 0.6108, "images": 3589, "epochs": 80, "kept_epoch": 80}
    scores |= {"training_images": 28132, "training_s": 224.0, "parameters": 5}
    scores |= {"device": "jax on gpu:0", "dtype_policy": "mixed_bfloat16"}
    (folder / "metrics.json").write_text(json.dumps(scores))
    return folder


def test_the_card_of_a_file_is_made_from_the_folder_of_its_facts(
    tmp_path: Path, facts_folder: Path
) -> None:
    source = save_net(tmp_path / "vgg16.keras")
    out = tmp_path / "out"
    done = run(
        "export", source, "--facts", facts_folder, "--note", "Taught votes alone.",
        "--licence", "CC-BY-4.0", "--export-dir", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (out / "vgg16.history.csv").read_text() == "epoch,loss\n1,0.5\n"
    spec = Classifier(out / "vgg16.onnx", detector="none").spec
    assert (spec.model, spec.recipe, spec.fold, spec.dataset) == (
        "vgg16", "modern", 0, "fer2013.zip",
    )  # fmt: skip
    assert (spec.dataset_digest, spec.licence) == ("c" * 64, "CC-BY-4.0")
    card = (out / "MODELS.md").read_text()
    for line in (
        "| Data | fer2013.zip, 28,132 images to train on |",
        "| Recipe | modern, seed 12, the data set's own split |",
        "| Training | 0.06 h, epoch 80 of 80 kept, jax on gpu:0, mixed_bfloat16 |",
        "| Note | Taught votes alone. |",
        "| Licence | CC-BY-4.0 |",
    ):
        assert line in card
    # Settings of another version: what they are, but no command that this one would refuse.
    assert "teacher_weight 1.0, normalization batch |" in card
    assert "| Command |" not in card
    assert "## Known biases of FER-2013" in card


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "Expected config.json, metrics.json, history.csv, or some of them"),
        ({"config.json": "{"}, "config.json"),
        ({"config.json": "[]"}, "Expected what fer-train writes in"),
        ({"metrics.json": '{"epochs": 3}'}, "Expected what fer-train writes in"),
    ],
)
def test_a_folder_without_facts_is_refused(
    tmp_path: Path, content: dict[str, str], message: str
) -> None:
    source = save_net(tmp_path / "mine.keras")
    folder = tmp_path / "facts"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    done = run("export", source, "--labels", LABELS, "--facts", folder)
    assert done.exit_code == 1
    assert message in done.stderr


@pytest.mark.parametrize("int8", [False, True])
def test_training_exports_with_facts_card_and_digests(tmp_path: Path, int8: bool) -> None:
    out = tmp_path / "out"
    done = run(
        "all", "--data", "synthetic:140", "--models", "edge", "--folds", 2, "--epochs", 1,
        "--run", tmp_path / "run", "--export-dir", out, *["--int8"] * int8,
    )  # fmt: skip
    assert done.exit_code == int8, done.output  # int8 is refused: too few images judge it
    assert names(out) == [
        "MODELS.md", "SHA256SUMS", "edge.history.csv", "edge.json", "edge.onnx",
    ]  # fmt: skip
    digest = hashlib.sha256((out / "edge.onnx").read_bytes()).hexdigest()
    assert (out / "SHA256SUMS").read_text() == f"{digest}  edge.onnx\n"
    card = (out / "MODELS.md").read_text()
    assert "| Top-1 on the held-out fold |" in card
    # Nobody has said a licence, and nothing is known of drawn faces.
    assert "Licence" not in card
    assert "FER-2013" not in card


def test_a_student_exports_with_facts_card_and_digests(tmp_path: Path) -> None:
    teacher = save_net(tmp_path / "teacher.keras")
    out = tmp_path / "out"
    done = run(
        "distill", teacher, "--data", "synthetic:140", "--epochs", 1, "--precision", "float32",
        "--run", tmp_path / "run", "--export-dir", out, "--licence", "MIT",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert names(out) == [
        "MODELS.md", "SHA256SUMS", "edge.history.csv", "edge.json", "edge.onnx",
    ]  # fmt: skip
    card = (out / "MODELS.md").read_text()
    assert "| Teacher | `teacher.keras`, by the mean" in card
    assert "| Licence | MIT |" in card


def test_biases_are_told_of_the_data_set_that_was_used_alone() -> None:
    for name in ("fer2013.zip", "FER-2013", "data/fer_2013.csv"):
        (section,) = data_biases([ModelSpec(dataset="other.zip"), ModelSpec(dataset=name)])
        assert section.startswith("## Known biases of FER-2013")
    assert data_biases(ModelSpec(dataset=name) for name in ("rafdb", "", "myfaces.zip")) == []
    (section,) = data_biases([DetectorSpec(dataset="faces.zip")])
    assert section.startswith("## Known biases of the detector's pictures")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any speed and loss of few images pass: the nets are small."""
    monkeypatch.setattr(quantize, "LEAST_SPEEDUP", 0.0)
    monkeypatch.setattr(quantize, "LARGEST_LOSS", 1.0)
    defaults = {"least_images": 10, "calibrations": (quantize.Calibration(100, 64),)}
    for name, value in defaults.items():
        monkeypatch.setitem(quantize.quantize_int8.__kwdefaults__, name, value)


@pytest.mark.parametrize("batch", [None, 1])
def test_any_described_file_is_quantised(tmp_path: Path, lenient: None, batch: int | None) -> None:
    source = save_torch_like_onnx(tmp_path / "mine.onnx", batch=batch)
    described = ["--labels", LABELS, "--channels", "rgb", "--range", "0,1", "--layout", "nchw"]
    described += ["--mean", "0.5", "--std", "0.25", "--outputs", "logits"]
    alone = run("quantize", source, "--data", "synthetic:140")
    assert alone.exit_code == 1
    assert "describe it with --labels" in alone.stderr
    out = tmp_path / "out"
    done = run("quantize", source, "--data", "synthetic:140", *described, "--export-dir", out)
    assert done.exit_code == 0, done.output
    assert names(out) == ["MODELS.md", "SHA256SUMS", "mine.int8.json", "mine.int8.onnx"]
    small = held_out.open_file(out / "mine.int8.onnx")
    assert (small.spec.precision, small.spec.layout) == ("int8", "nchw")
    assert (small.spec.mean, small.spec.outputs) == ((0.5,), "logits")
    fp32 = held_out.open_file(
        source,
        labels=LABELS.split(","),
        color="rgb",
        range=(0, 1),
        layout="nchw",
        mean=0.5,
        std=0.25,
        outputs="logits",
    )
    predicted, wanted = (held_out.predict_images(model, IMAGES) for model in (small, fp32))
    assert 0 < np.abs(predicted - wanted).max() < 0.1
    facts = read_facts(out / "mine.int8.onnx")
    assert facts["evaluated_on"] == "PublicTest"
    assert facts["int8"]["mean_difference"] < 0.02


def test_int8_alone_ships_with_the_facts_and_logs_of_its_parent(
    tmp_path: Path, facts_folder: Path, lenient: None
) -> None:
    source = save_net(tmp_path / "vgg16.keras")
    before, out = tmp_path / "fp32", tmp_path / "out"
    done = run("export", source, "--facts", facts_folder, "--export-dir", before)
    assert done.exit_code == 0, done.output
    parent = before / "vgg16.onnx"
    done = run("quantize", parent, "--data", "synthetic:140", "--export-dir", out)
    assert done.exit_code == 0, done.output
    assert names(out) == [
        "MODELS.md", "SHA256SUMS", "vgg16.history.csv", "vgg16.int8.json", "vgg16.int8.onnx",
    ]  # fmt: skip
    digest = hashlib.sha256(parent.read_bytes()).hexdigest()
    assert Classifier(out / "vgg16.int8.onnx", detector="none").spec.parent == digest
    assert "| Training | 0.06 h, epoch 80 of 80 kept" in (out / "MODELS.md").read_text()
    again = run("quantize", out / "vgg16.int8.onnx", "--data", "synthetic:140")
    assert again.exit_code == 1
    assert "Expected an fp32 file to quantise" in again.stderr
    # Beside an fp32 file of another training it would seem to be made of that one.
    (out / "vgg16.onnx").write_bytes(b"another")
    other = run("quantize", parent, "--data", "synthetic:140", "--export-dir", out)
    assert other.exit_code == 1
    assert "Expected no other vgg16.onnx" in other.stderr


def test_a_shipped_int8_file_is_not_lost_to_another_training(
    tmp_path: Path, facts_folder: Path, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = save_net(tmp_path / "vgg16.keras")
    export: Callable[[], Result] = lambda: run("export", source, "--facts", facts_folder)  # noqa: E731
    assert export().exit_code == 0
    Path("exported").rename("fp32")
    quantize = run(
        "quantize", "fp32/vgg16.onnx", "--data", "synthetic:140", "--export-dir", "exported"
    )
    assert quantize.exit_code == 0, quantize.output
    shipped = Path("exported/vgg16.int8.onnx").read_bytes()
    net = keras.saving.load_model(source, compile=False)
    net.set_weights([2 * weight for weight in net.get_weights()])
    net.save(source)
    other = export()
    assert other.exit_code == 0
    assert "has a vgg16 of another training, which stays" in other.stderr
    assert Path("exported/vgg16.int8.onnx").read_bytes() == shipped
    assert names(Path("vgg16-exported"))[-1] == "vgg16.onnx"


COUNTS = drawn_votes(70)
# PublicTest of the drawn faces: of ten images the fifth.
HELD = np.arange(4, 70, 10)


@dataclass
class Voted:
    """An exported model, what people saw in the images that it is tested on, what was printed."""

    source: Path
    votes: Path
    out: Path
    printed: str

    @property
    def agreement(self) -> float:
        """Return the share of votes for what the file predicts, as it is without its prior."""
        faces = synthetic_faces(70)[0][HELD].astype(np.float32)[..., None]
        model = Classifier(self.out / "mine.onnx", detector="none", prior=0)
        return float((COUNTS[HELD, model.probabilities(faces).argmax(axis=1)] / 10).mean())


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Voted:
    folder = tmp_path_factory.mktemp("voted")
    source = save_net(folder / "mine.keras")
    votes = write_drawn_votes(folder / "votes.csv", COUNTS)
    data = ("--data", "synthetic:70", "--votes", votes)
    done = run("export", source, "--labels", LABELS, "--export-dir", folder / "out", *data)
    assert done.exit_code == 0, done.output
    return Voted(source, votes, folder / "out", done.stdout)


def test_agreement_with_people_is_measured_where_votes_are_known(voted: Voted) -> None:
    facts = read_facts(voted.out / "mine.onnx")
    assert facts["single"]["agreement"] == pytest.approx(voted.agreement)
    assert f"agreement with a rater {voted.agreement:.3f} on PublicTest" in voted.printed


def test_the_prior_is_how_often_votes_teach_each_emotion(voted: Voted) -> None:
    taught = COUNTS[load_dataset("synthetic:70").usage == "Training"]
    # Single votes are left out.
    several = np.where(taught > 1, taught, 0)
    assert several.sum(axis=1).min() >= 4
    shares = several / several.sum(axis=1, keepdims=True)
    prior = Classifier(voted.out / "mine.onnx", detector="none").spec.prior
    assert prior == pytest.approx(shares.mean(axis=0), abs=1e-5)


def test_a_card_tells_of_agreement_with_people(voted: Voted) -> None:
    card = (voted.out / "MODELS.md").read_text()
    assert f"| Agreement with a rater | {voted.agreement:.3f}, mirrored " in card
    ceiling = (COUNTS[HELD] / 10).max(axis=1).mean()
    assert f"| Ceiling of agreement | {ceiling:.3f} |" in card
    assert "| class of the clear majority | recall | images |" in card
    assert "- Agreement of two raters: the probability that two raters of such an image" in card


def test_a_card_says_nothing_of_raters_where_nobody_voted(voted: Voted, tmp_path: Path) -> None:
    flags = ("--labels", LABELS, "--data", "synthetic:70", "--export-dir", tmp_path)
    assert run("export", voted.source, *flags).exit_code == 0
    assert "rater" not in (tmp_path / "MODELS.md").read_text()
    assert Classifier(tmp_path / "mine.onnx", detector="none").spec.prior == ()


@pytest.mark.parametrize(
    ("labels", "data", "code", "message"),
    [
        (LABELS, (), 2, "--votes needs --data"),
        (
            LABELS.replace("fear", "bored"),
            ("--data", "synthetic:70"),
            1,
            "Expected classes among angry, disgust",
        ),
    ],
    ids=["without data", "of other classes"],
)
def test_votes_that_say_nothing_of_a_model_are_refused(
    voted: Voted, tmp_path: Path, labels: str, data: tuple[str, ...], code: int, message: str
) -> None:
    flags = ("--labels", labels, "--votes", voted.votes, "--export-dir", tmp_path / "out")
    done = run("export", voted.source, *flags, *data)
    assert done.exit_code == code
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
