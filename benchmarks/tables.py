"""Write the tables of README.md and docs/ from benchmarks/results and exported/*.json.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between is replaced.

    python benchmarks/tables.py            # after `make bench` or an export
    python benchmarks/tables.py --check    # exit 1 where a document says something else
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.exported import EXPORTED, emotion_models
from fer_edge.contract import EMOTIONS
from fer_edge.errors import FerError
from fer_edge.inference.locate import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs/results.md")
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(^<!-- end -->$)", re.DOTALL | re.MULTILINE)
_ELSEWHERE = "measured elsewhere"

Json = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the tables are made from.

    Attributes:
        results: Folder of the benchmarks' JSON files.
        exported: Folder of the models and the facts beside them.
    """

    results: Path = RESULTS
    exported: Path = EXPORTED

    def read(self, name: str) -> Json:
        """Return what ``NAME.json`` holds.

        Raises:
            FileNotFoundError: That benchmark has not run.
        """
        found: Json = json.loads((self.results / f"{name}.json").read_text())
        return found

    def peers(self) -> list[Json]:
        """Return what was measured elsewhere."""
        found: list[Json] = self.read("peers")["peers"]
        return found

    def models(self) -> dict[str, Json]:
        """Return the facts of each model of emotions by its name, fp32 before smaller forms."""
        files = sorted(emotion_models(self.exported), key=lambda path: path.stem.split("."))
        return {
            path.name: json.loads(path.with_suffix(".json").read_text())
            | {"megabytes": path.stat().st_size / 1e6}
            for path in files
            if path.with_suffix(".json").is_file()
        }

    def accuracies(self) -> list[Json]:
        """Return what `benchmarks/accuracy.py` found of each model.

        Raises:
            FileNotFoundError: It has not run.
        """
        files = sorted(self.results.glob("accuracy-*.json"))
        if not files:
            raise FileNotFoundError(0, "not measured", "accuracy-MODEL.json")
        return [self.read(path.stem) for path in files]

    def latencies(self) -> list[Json]:
        """Return the rows of batch 1 with most threads; [] if none was measured."""
        if not (self.results / "latency.json").is_file():
            return []
        rows = [row for row in self.read("latency")["rows"] if row["batch_size"] == 1]
        most = max(row["threads"] for row in rows)
        return [row for row in rows if row["threads"] in (0, most)]


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share in percent; nothing for None."""
    return "" if share is None else f"{share:.{digits}%}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def models_table(measured: Measured) -> str:
    """Return accuracy, size and latency of each file, and what others reach."""
    latency = {row["name"]: row["median_ms"] for row in measured.latencies()}
    rows = []
    for name, facts in measured.models().items():
        single, mirrored = facts["single"], facts["mirrored"]
        held_out = facts["evaluated_on"]
        rows.append(
            [
                f"`{name}`"
                + (", the default" if name == DEFAULT_MODEL else "")
                + (f" (on {held_out})" if held_out != "PublicTest" else ""),
                percent(single.get("agreement"), 1),
                percent(single.get("clear_accuracy")),
                percent(mirrored.get("clear_accuracy")),
                percent(single["accuracy"]),
                percent(single["binary_accuracy"]),
                f"{facts['parameters']:,}",
                f"{facts['megabytes']:.1f} MB",
                f"{latency[name]:.2f}" if name in latency else "",
            ]
        )
    for peer in measured.peers():
        ms = peer.get("latency_ms")
        rows.append(
            [
                f"{peer['name']}, {_ELSEWHERE}",
                *[""] * 3,
                percent(peer["accuracy"], 1),
                percent(peer.get("binary_accuracy")),
                f"{peer['parameters']:,}",
                "",
                f"{ms:.2f} ({peer['runs_on']})" if ms else "",
            ]
        )
    heads = [
        "model",
        "agreement with a rater",
        "clear majorities",
        "the same, mirrored",
        "FER-2013's labels",
        "binary accuracy",
        "parameters",
        "size",
        "ms, batch 1",
    ]
    return markdown(heads, rows)


def recall_table(measured: Measured) -> str:
    """Return the recall of each emotion: of the clear majority's, and of the label's."""
    rows = []
    for name, facts in measured.models().items():
        single = facts["single"]
        pairs = zip(single.get("majority_recall", [None] * 7), single["recall"], strict=True)
        cells = [f"{percent(most, 0)} / {percent(labelled, 0)}" for most, labelled in pairs]
        rows.append([f"`{name}`", *cells])
    return markdown(["recall", *EMOTIONS], rows)


def prior_table(measured: Measured) -> str:
    """Return what dividing by the prior changes, on all of PublicTest and on its halves."""
    content = measured.read("prior")
    rows = []
    for name, powers in content["models"].items():
        for row in powers:
            whole = row["all"]
            recall = dict(zip(content["labels"], whole["majority_recall"], strict=True))
            rows.append(
                [
                    f"`{name}`",
                    f"{row['power']:g}" + (" (default)" * (row["power"] == content["default"])),
                    percent(whole["agreement"], 1),
                    percent(whole["clear_accuracy"], 1),
                    percent(whole["clear_balanced_accuracy"], 1),
                    percent(recall["fear"], 0),
                    percent(recall["disgust"], 0),
                    *(
                        f"{percent(row[half]['agreement'], 1)}, "
                        f"{percent(row[half]['clear_balanced_accuracy'], 1)}"
                        for half in ("even", "odd")
                    ),
                ]
            )
    heads = [
        "file",
        "power",
        "agreement with a rater",
        "clear majorities",
        "mean recall",
        "fear",
        "disgust",
        "even half: agreement, mean recall",
        "odd half",
    ]
    return markdown(heads, rows)


def following_table(measured: Measured) -> str:
    """Return frames/s by how often faces are detected, and how well followed boxes fit."""
    rows = [
        [
            every,
            f"{fits['frames_per_s']:.0f}",
            f"{fits['overlap']:.2f}",
            f"{fits['least_overlap']:.2f}",
            percent(fits["same_emotion"], 0),
        ]
        for every, fits in measured.read("video")["following"].items()
    ]
    heads = ["`--detect-every`", "frames/s", "overlap of the boxes", "least", "same emotion"]
    return markdown(heads, rows)


def tilt_table(measured: Measured) -> str:
    """Return what share of faces in made scenes is read right by their tilt."""
    rows = [
        [f"{tilt}°", percent(row["found"], 0)]
        + [percent(row[way], 1) for way in ("as it is", "turned", "default")]
        for tilt, row in measured.read("alignment")["by_tilt"].items()
    ]
    heads = [
        "tilt",
        "found",
        "cut out as it is",
        "turned upright",
        "turned from 12° on, the default",
    ]
    return markdown(heads, rows)


def size_table(measured: Measured) -> str:
    """Return what share of faces is read right by their size."""
    sides = measured.read("alignment")["by_side"]
    heads = ["side of the face", *(f"{side} px" for side in sides)]
    return markdown(heads, [["read right", *(percent(share, 1) for share in sides.values())]])


def latency_table(measured: Measured) -> str:
    """Return milliseconds and images/s of each file and of what ran beside it."""
    rows: dict[tuple[str, str, int], dict[int, Json]] = {}
    content = measured.read("latency")
    for row in content["rows"]:
        if row["kind"] != "matrix":
            key = (row["name"], row["provider"], row["threads"])
            rows.setdefault(key, {})[row["batch_size"]] = row
    sizes = sorted({row["batch_size"] for row in content["rows"]})
    lines = []
    for (name, provider, threads), found in sorted(rows.items(), key=lambda item: item[0][::2]):
        one = found[1]
        lines.append(
            [
                f"`{name}`",
                f"{provider}, {threads} thread{'s'[: threads != 1]}" if threads else provider,
                *(f"{one[key]:.2f}" for key in ("median_ms", "p95_ms", "p99_ms", "after_rest_ms")),
                *(f"{found[size]['images_per_s']:,.0f}" for size in sizes),
                percent(one["share_of_matrix_rate"], 0),
            ]
        )
    heads = ["", "on", "ms, batch 1", "p95", "p99", "after a rest"]
    heads += [f"images/s, batch {size}" for size in sizes]
    return markdown([*heads, "of the fp32 matrix rate"], lines)


def ratios_table(measured: Measured, results: str = "latency") -> str:
    """Return the slowdown of one against another, in the same run."""
    return markdown(
        ["batch 1", "beside", "threads", "slowdown", "after a rest"],
        [
            [
                f"`{row['slower']}`",
                f"`{row['faster']}`",
                str(row["threads"]),
                f"{row['ratio']:.2f}",
                f"{row['after_rest']:.2f}",
            ]
            for row in measured.read(results)["ratios"]
            if row["batch_size"] == 1 and _is_told(row["slower"], row["faster"])
        ],
    )


def _is_told(slower: str, faster: str) -> bool:
    """Return whether a ratio says something: of one model's forms, or of a peer to our int8."""
    if slower.partition(".")[0] == faster.partition(".")[0]:
        return slower.endswith((".onnx", " predict"))
    return slower.endswith((".onnx", ".tflite")) and faster.endswith(".int8.onnx")


def speed_table(measured: Measured) -> str:
    """Return what the commands cost beside the least that they could."""
    startup, throughput = measured.read("startup"), measured.read("throughput")
    video, page = measured.read("video"), measured.read("browser")
    modes, clip = video["modes"], video["clip"]
    rows = [
        [
            "one picture, beside a bare script that loads OpenCV, onnxruntime and both models",
            f"{startup['ratio']:.2f} times its time ({startup['fer_edge']['median_s']:.2f} s), "
            f"{startup['memory_ratio']:.2f} times its memory "
            f"({startup['fer_edge']['peak_mib']:.0f} MiB)",
            "startup",
        ],
        [
            "a folder of 48 x 48 faces, beside the bare session",
            f"{percent(throughput['ratio'], 0)} of its faces per second "
            f"({throughput['folder_faces_per_s']:.0f})",
            "throughput",
        ],
        [
            f"video, {clip['width']} x {clip['height']}, one face",
            f"{modes['default']['frames_per_s']:.0f} frames/s",
            "video",
        ],
        [
            "the same, detecting in every frame (`--detect-every 1`)",
            f"{modes['detect-every-1']['frames_per_s']:.1f} frames/s: finding faces is what costs",
            "video",
        ],
        [
            f"the page of `fer-edge web`, {page['camera']['width']} x {page['camera']['height']}, "
            "one face, in Chromium without a window",
            f"{page['forms']['float32']['frames_per_s']:.0f} frames/s",
            "browser",
        ],
    ]
    return markdown(
        ["what", "measured", "command"],
        [[what, found, f"`python benchmarks/{name}.py`"] for what, found, name in rows],
    )


def peer_table(measured: Measured) -> str:
    """Return what `fer` costs, beside the same of this package."""
    startup, video = measured.read("startup"), measured.read("video")
    peer = measured.peers()[0]
    ours = startup["fer_edge"]
    return markdown(
        ["", f"{peer['name']}, {_ELSEWHERE}", "fer-edge"],
        [
            [
                "video, one face",
                f"{peer['video_frames_per_s']} frames/s",
                f"{video['modes']['default']['frames_per_s']:.0f} frames/s",
            ],
            ["one picture", f"{peer['picture_s']} s", f"{ours['median_s']:.2f} s"],
            ["its memory", f"{peer['picture_mib']} MiB", f"{ours['peak_mib']:.0f} MiB"],
        ],
    )


def detectors_table(measured: Measured) -> str:
    """Return what each face detector finds."""
    rows = []
    for name, found in measured.read("detectors")["detectors"].items():
        sizes, tilts = found["recall_by"]["size"], found["recall_by"]["tilt"]
        larger = [recall for size, recall in sizes.items() if size != "24 px"]
        # Left and right together.
        tilted = [(tilts[f"-{by} deg"] + tilts[f"+{by} deg"]) / 2 for by in (10, 20, 30)]
        rows.append(
            [
                name,
                percent(found["recall"], 0),
                percent(sizes["24 px"], 0),
                percent(sum(larger) / len(larger), 0),
                " / ".join(percent(recall, 0) for recall in tilted),
                f"{found['false_positives']} in {found['scenes']} scenes",
            ]
        )
    heads = ["", "recall", "at 24 px", "from 32 px up", "tilted by 10 / 20 / 30 degrees"]
    return markdown([*heads, "false positives"], rows)


def pictures_table(measured: Measured) -> str:
    """Return what each face detector finds in pictures with boxes."""
    found = measured.read("detectors")["pictures"]
    rows = []
    for name, row in found.items():
        own = row["default"]
        rows.append(
            [
                name,
                percent(own["recall"], 1),
                percent(own["recall_from_24_px"], 1),
                f"{own['false_in_empty']} in {row['empty_pictures']} pictures",
                str(own["false_elsewhere"]),
                f"{row['average_precision']:.3f}",
                f"{row['median_ms'] / found['face']['median_ms']:.1f}",
            ]
        )
    heads = ["", "faces found", "from 24 px up", "boxes where no face is", "elsewhere"]
    return markdown([*heads, "average precision", "time"], rows)


def cascades_table(measured: Measured) -> str:
    """Return what OpenCV's frontal cascades find, those alone that find three of four faces."""
    rows = [row for row in measured.read("cascades")["cascades"] if row["recall"] >= 0.75]
    rows.sort(key=lambda row: (row["false_positives"], row["processor_ms"]))
    fastest = min(row["processor_ms"] for row in rows)
    return markdown(
        ["cascade", "scale factor", "neighbours", "recall", "false positives", "time"],
        [
            [
                row["cascade"],
                str(row["scale_factor"]),
                str(row["min_neighbors"]),
                percent(row["recall"], 0),
                str(row["false_positives"]),
                f"{row['processor_ms'] / fastest:.2f}",
            ]
            for row in rows
        ],
    )


def parity_table(measured: Measured) -> str:
    """Return how near each file is to what it was made from."""
    return markdown(
        ["file", "against", "images", "largest difference", "mean", "equal predictions", "top-1"],
        [
            [
                f"`{row['file']}`",
                row["reference"],
                f"{row['images']:,}",
                f"{row['largest_difference']:.1e}",
                f"{row['mean_difference']:.1e}",
                percent(row["equal_predictions"]),
                f"{percent(row['reference_accuracy'])} -> {percent(row['accuracy'])}",
            ]
            for row in measured.read("parity")["rows"]
            if row["file"].endswith(".onnx")
        ],
    )


def paired_table(measured: Measured) -> str:
    """Return whether a file and its int8 form differ by more than chance on the same images."""
    rows = []
    for content in measured.accuracies():
        if "comparison" in content:
            found = content["comparison"]
            names = [name for name in content if name.endswith(".onnx")]
            rows.append(
                [
                    " and ".join(f"`{name}`" for name in names),
                    f"{found['only_first_right']} and {found['only_second_right']}",
                    f"{found['mid_p']:.2f}",
                ]
            )
    return markdown(["top-1 of", "right alone", "McNemar's mid-p"], rows)


def compatibility_table(measured: Measured) -> str:
    """Return the largest difference of each file in other runtimes."""
    files = measured.read("compatibility")["files"]
    runtimes = [row["runtime"] for row in next(iter(files.values()))["runtimes"]]
    rows = []
    for name, facts in files.items():
        cells = [
            f"{row['largest_difference']:.1g}; {percent(row['equal_predictions'], 0)} alike"
            if row["loads"]
            else "does not load"
            for row in facts["runtimes"]
        ]
        rows.append([f"`{name}`", str(facts["opsets"]["ai.onnx"]), *cells])
    return markdown(["file", "opset", *runtimes], rows)


def endurance_table(measured: Measured) -> str:
    """Return what long videos and damaged files did."""
    memory, fuzz = measured.read("memory"), measured.read("fuzz")
    pictures, models = fuzz["pictures"], fuzz["models"]
    rows = [
        [
            f"{memory['clip']['frames']:,} frames of video: growth of resident memory after the "
            f"first {memory['settle_frames']}",
            f"{memory['growth_mib']:.1f} MiB",
            "memory",
        ],
        [
            f"{pictures['files']:,} damaged pictures",
            f"{pictures['records']:,} records, {pictures['tracebacks']} tracebacks",
            "fuzz",
        ],
        [
            f"{models['files']:,} damaged models",
            f"{models.get('refused', 0)} refused, {models.get('run', 0)} run, "
            f"{models['crashes']} crashes",
            "fuzz",
        ],
    ]
    return markdown(
        ["what", "measured", "command"],
        [[what, found, f"`python benchmarks/{name}.py`"] for what, found, name in rows],
    )


def training_table(measured: Measured) -> str:
    """Return what ten folds of the transfer models take with features computed once."""
    full = measured.read("training-full")["full"]["models"]
    rows = [
        [
            name,
            f"{full[name]['ten_folds_minutes']:.0f} minutes",
            f"{row['extrapolated']['features_once_minutes']:.0f} minutes",
            f"{row['extrapolated']['through_backbone_minutes']:.0f} minutes",
            f"{row['time_ratio']:.0f}",
            f"{row['work_ratio']:.0f}",
        ]
        for name, row in measured.read("training")["frozen"].items()
    ]
    heads = [
        "10 folds x 20 epochs",
        "features once, from a whole fold",
        "the same, from parts",
        "through the backbone, from parts",
        "slowdown without features",
        "times the operations",
    ]
    return markdown(heads, rows)


def without_copies_table(measured: Measured) -> str:
    """Return what each file reaches where no copy of an image was there to train on."""
    rows = []
    for content in measured.accuracies():
        for name, scores in content.items():
            if name.endswith(".onnx"):
                alone, every = scores["without_copies"], scores["single"]
                rows.append(
                    [
                        f"`{name}`",
                        f"{percent(every['accuracy'])} of {every['images']:,}",
                        f"{percent(alone['single'])} of {alone['images']:,}",
                        percent(alone["mirrored"]),
                    ]
                )
    heads = ["top-1", "all of PublicTest", "without copies in Training", "the same, mirrored"]
    return markdown(heads, rows)


def copies_table(measured: Measured) -> str:
    """Return how many copies the data set holds."""
    facts = measured.read("fer2013")
    rows = [
        [
            title,
            *(
                f"{facts[kind][key]:,}"
                for key in ("groups", "images", "across_usages", "conflicting_labels")
            ),
        ]
        for kind, title in (("identical", "pixel-identical"), ("near", "near-identical too"))
    ]
    heads = ["", "groups of copies", "images in them", "groups across the two splits"]
    return markdown([*heads, "groups with conflicting labels"], rows)


def picture(measured: Measured, name: str, what: str) -> str:
    """Return a picture's Markdown.

    Raises:
        FileNotFoundError: It was not drawn yet.
    """
    (measured.results / f"{name}.png").stat()
    return f"![{what}](../benchmarks/results/{name}.png)"


TABLES: Mapping[str, Callable[[Measured], str]] = {
    "models": models_table,
    "recall": recall_table,
    "prior": prior_table,
    "without-copies": without_copies_table,
    "copies": copies_table,
    "following": following_table,
    "tilt": tilt_table,
    "size": size_table,
    "latency": latency_table,
    "ratios": ratios_table,
    "ratios-avx2": lambda measured: ratios_table(measured, "latency-avx2"),
    "speed": speed_table,
    "peer": peer_table,
    "detectors": detectors_table,
    "pictures": pictures_table,
    "cascades": cascades_table,
    "parity": parity_table,
    "paired": paired_table,
    "compatibility": compatibility_table,
    "endurance": endurance_table,
    "training": training_table,
    "accuracy-against-latency": lambda measured: picture(
        measured, "accuracy-against-latency", "Top-1 against milliseconds, a dot for each model"
    ),
    "speed-up": lambda measured: picture(
        measured, "speed-up", "How many times as fast as Keras's predict each file is"
    ),
}


def render(text: str, measured: Measured) -> str:
    """Return a Markdown text with its tables written anew.

    Raises:
        FerError: A table is not known, or its marks do not pair.
    """
    if text.count("<!-- table:") != text.count("<!-- end -->"):
        raise FerError("Expected an <!-- end --> after each <!-- table: NAME -->")

    def table(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in TABLES:
            raise FerError(f"Expected a table of {', '.join(TABLES)}, received {name}")
        try:
            content = TABLES[name](measured)
        except FileNotFoundError as error:
            content = f"Not measured yet: `make bench` writes {Path(error.filename).name}."
        return f"{begin}{content}\n{end}"

    return _BLOCK.sub(table, text)


@click.command()
@click.argument("documents", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a document differs.")
def main(documents: tuple[Path, ...], check: bool) -> None:
    """Write the tables of DOCUMENTS anew; of README.md and docs/results.md by default."""
    differ = []
    for document in documents or DOCUMENTS:
        text = document.read_text()
        wanted = render(text, Measured())
        if text != wanted:
            differ.append(document.name)
            if not check:
                document.write_text(wanted)
    if check and differ:
        names = " and ".join(differ)
        sys.stderr.write(f"Not what was measured: {names}; run benchmarks/tables.py\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
