"""What names and numbers in a data set mean, and which classes they make."""

import csv
import unicodedata

import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_train.data.emotions import (
    LABEL_PRESETS,
    LEFT_OUT,
    SEVEN,
    make_labelling,
    parse_labels_map,
)
from fer_train.data.languages import _WORDS, LANGUAGES, folded
from fer_train.data.layouts import load_layout
from fer_train.data.load import load_dataset

EIGHT = (*EMOTIONS, "contempt")


def put(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return folder


def named(dataset):
    """The class of each picture by its name."""
    return {
        str(name): dataset.label_names[label]
        for name, label in zip(dataset.names, dataset.labels, strict=True)
    }


@pytest.mark.parametrize(
    ("classes", "labels_map", "expected"),
    [
        ((), (), EMOTIONS),
        ((), LABEL_PRESETS["rafdb"], EMOTIONS),
        ((), LABEL_PRESETS["affectnet"], EIGHT),
        ((), ("1=positive", "2=negative"), ("positive", "negative")),
        ((), ("joie=happy",), EMOTIONS),
        ((), ("contempt=contempt",), EIGHT),
        (("sad", "Happiness", "Bored"), (), ("sad", "happy", "Bored")),
        (EIGHT, ("mépris=Contempt",), EIGHT),
    ],
)
def test_classes_are_those_named_or_the_seven_and_what_the_map_adds(classes, labels_map, expected):
    assert make_labelling(classes, labels_map).classes == expected


@pytest.mark.parametrize(
    ("preset", "meanings"),
    [
        ("fer2013", dict(enumerate(EMOTIONS))),
        (
            "RAF-DB",
            dict(enumerate(["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"], 1)),
        ),
        (
            "AffectNet",
            {0: "neutral", 1: "happy", 2: "sad", 3: "surprise", 4: "fear", 5: "disgust"}
            | {6: "angry", 7: "contempt", 8: LEFT_OUT, 9: LEFT_OUT, 10: LEFT_OUT, 11: None},
        ),
        ("ckplus", {0: "neutral", 1: "angry", 2: "contempt", 7: "surprise"}),
        ("kdef", {"AF": "fear", "ne": "neutral", "sad": "sad"}),
    ],
)
def test_presets_mean_what_the_authors_say(preset, meanings):
    labelling = make_labelling((), parse_labels_map(preset))
    assert {key: labelling.meaning(str(key)) for key in meanings} == meanings


def test_a_name_means_its_class_in_any_case_and_the_map_comes_first():
    labelling = make_labelling(("positive", "negative"), ("happy=positive", "sad=Negative"))
    assert labelling.meaning("Happiness") == "positive"
    assert labelling.meaning("SAD ") == "negative"
    assert labelling.meaning("POSITIVE") == "positive"
    # Emotions that are no class are left out once somebody has said the classes.
    assert labelling.meaning("fear") == LEFT_OUT
    assert labelling.meaning("bored") is None
    assert SEVEN.meaning("contempt") is None


def test_codes_are_the_challenges_until_the_map_has_numbers():
    assert SEVEN.meaning_of_code("3") == "happy"
    assert make_labelling((), ("joie=happy",)).meaning_of_code("03") == "happy"
    raf = make_labelling((), parse_labels_map("rafdb"))
    assert (raf.meaning_of_code("1"), raf.meaning_of_code("0")) == ("surprise", None)
    # Folders of numbers mean nothing until somebody says whose numbers they are.
    assert SEVEN.meaning("3") is None


def test_a_map_is_a_file_pairs_or_presets(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_text('"1" = "surprise"\n"nichts" = ""\n')
    assert parse_labels_map(str(path)) == ("1=surprise", "nichts=")
    assert parse_labels_map("1=surprise, nichts=") == ("1=surprise", "nichts=")
    assert parse_labels_map("rafdb,8=contempt") == (*LABEL_PRESETS["rafdb"], "8=contempt")
    assert parse_labels_map("German,de, FR") == ("german", "german", "french")
    assert parse_labels_map(f"german,{path}") == ("german", "1=surprise", "nichts=")


# By hand, one of each emotion in its order and then contempt, as their folders are found.
ABROAD = {
    "german": "Wut EKEL angst Freude traurig Überraschung Neutral Verachtung",
    "french": "colere Dégoût peur JOIE Tristesse surprise neutre mépris",
    "spanish": "ira asco miedo felicidad tristeza sorpresa neutral desprecio",
    "italian": "rabbia disgusto paura felicità tristezza sorpresa neutro disprezzo",
    "portuguese": "raiva nojo medo alegria tristeza surpresa neutro desprezo",
    "dutch": "boos walging angst blij verdriet verrassing neutraal minachting",
    "swedish": "arg avsky radsla glad ledsen förvåning neutral förakt",
    "polish": "zlosc wstręt strach SZCZĘŚCIE smutek zaskoczenie neutralny pogarda",
    "russian": "Гнев отвращение страх счастье грусть удивлённый нейтральный презрение",
    "turkish": "KIZGIN iğrenme korku mutlu üzgün ŞAŞKIN nötr küçümseme",
    "chinese": "愤怒 厌恶 恐惧 高兴 悲伤 惊讶 中性 轻蔑",
    "japanese": "怒り 嫌悪 恐怖 喜び 悲しみ 驚き 無表情 軽蔑",
    "korean": "분노 혐오 공포 행복 슬픔 놀람 중립 경멸",
}


@pytest.mark.parametrize(("language", "names"), ABROAD.items())
def test_languages_name_the_emotions_in_any_case_with_and_without_accents(language, names):
    labelling = make_labelling(EIGHT, parse_labels_map(language))
    order = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"]
    for form in ("NFC", "NFD"):
        words = unicodedata.normalize(form, names).split()
        assert [labelling.meaning(word) for word in words] == order
    assert labelling.meaning("happiness") == "happy"


def test_every_word_of_a_language_means_one_emotion():
    for language in LANGUAGES:
        words = [word for row in _WORDS[language].values() for word in row.split()]
        assert set(_WORDS[language]) == set(EIGHT), language
        assert len(set(map(folded, words))) == len(words), language


def test_marks_that_are_no_accents_tell_letters_apart():
    # Two Japanese letters that differ by their mark alone, and a half-width one.
    assert folded("が") != folded("か")
    assert folded("ﾆｭｰﾄﾗﾙ") == folded("ニュートラル")
    assert folded("9" * 5000) == "9" * 5000


def test_a_language_makes_no_class_and_gives_way_to_pairs():
    labelling = make_labelling((), ("german", "froh=surprise"))
    assert labelling.classes == EMOTIONS
    assert (labelling.meaning("FROH"), labelling.meaning("freude")) == ("surprise", "happy")
    # An eighth that nobody has asked for: an error, as with its English name.
    assert labelling.meaning("Verachtung") is None
    fewer = make_labelling(("happy", "sad"), ("german",))
    assert (fewer.meaning("Trauer"), fewer.meaning("Wut")) == ("sad", LEFT_OUT)
    own = make_labelling(("Freude", "Trauer"), ("german",))
    assert (own.meaning("freude"), own.meaning("wut")) == ("Freude", LEFT_OUT)


def test_of_two_languages_a_name_of_two_meanings_has_none():
    labelling = make_labelling((), ("spanish", "portuguese"))
    assert (labelling.meaning("triste"), labelling.meaning("enojado")) == ("sad", None)


def test_names_of_a_language_that_nobody_gave_are_explained(tmp_path):
    put(tmp_path, "Freude/a.png")
    with pytest.raises(DataError, match=r"'Freude'.*; --labels-map german knows it as happy"):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, labelling=make_labelling((), ("german",)))
    assert named(dataset) == {"Freude/a.png": "happy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raf", r"a data set \(fer2013, rafdb, .* or a language \(english, .*; did you mean rafdb"),
        ("germna", "received 'germna'; did you mean german"),
        ("joie", "received 'joie'; for the names of a language give its name, here french"),
        ("klingon", r"received 'klingon'$"),
        ("=happy", "received '=happy'"),
        ("", "received nothing"),
        ("1=happy,01=sad", "one meaning of '01', received two"),
        ("no.toml", "Expected a TOML file of labels, received no.toml"),
    ],
)
def test_maps_that_say_nothing_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        make_labelling((), parse_labels_map(text))


@pytest.mark.parametrize("content", ["1 = 2", "", "[a]\nb = 'happy'", "'a,b' = 'happy'", "= 3"])
def test_files_of_something_else_are_refused(tmp_path, content):
    path = tmp_path / "labels.toml"
    path.write_text(content)
    with pytest.raises(DataError, match=r"labels\.toml"):
        parse_labels_map(str(path))


@pytest.mark.parametrize(
    ("classes", "labels_map", "message"),
    [
        (("sad", "Sadness"), (), "classes that differ"),
        (("sad", "a=b"), (), "a class without , and =, received 'a=b'"),
        (("sad", "happy"), ("x=bored",), "name the classes sad, happy, received bored"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes, labels_map, message):
    with pytest.raises(DataError, match=message):
        make_labelling(classes, labels_map)


# --- data sets ------------------------------------------------------------------------------------


def test_folders_of_numbers_are_read_by_the_map(tmp_path):
    put(tmp_path, "train/1/a.png", "train/7/b.png", "test/04/c.png", "train/8/d.png")
    labelling = make_labelling((), parse_labels_map("rafdb,8="))
    dataset = load_dataset(tmp_path, labelling=labelling)
    assert named(dataset) == {
        "train/1/a.png": "surprise",
        "train/7/b.png": "neutral",
        "test/04/c.png": "happy",
    }
    assert dataset.left_out == {"8": 1}
    assert dataset.label_names == EMOTIONS


def test_folders_of_other_classes_and_fewer(tmp_path):
    put(tmp_path, "Bored/a.png", "happy/b.png", "sad/c.png")
    dataset = load_dataset(tmp_path, labelling=make_labelling(("happy", "bored")))
    assert named(dataset) == {"Bored/a.png": "bored", "happy/b.png": "happy"}
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.left_out == {"sad": 1}


def test_contempt_is_an_eighth(tmp_path):
    put(tmp_path, *(f"{emotion}/{emotion}.png" for emotion in EIGHT))
    dataset = load_dataset(tmp_path, labelling=make_labelling(EIGHT))
    assert np.bincount(dataset.labels).tolist() == [1] * 8
    with pytest.raises(DataError, match=r"lies in folder 'contempt'.*--labels-map 'contempt'="):
        load_dataset(tmp_path)


def test_a_csv_of_other_codes_and_names(tmp_path):
    path = tmp_path / "a.csv"
    cells = ["1", "02", "Happiness", "9"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels"])
        writer.writerows([cell, " ".join([str(n)] * 2304)] for n, cell in enumerate(cells))
    dataset = load_dataset(path, labelling=make_labelling((), parse_labels_map("rafdb,9=")))
    assert named(dataset) == {"row 1": "surprise", "row 2": "fear", "row 3": "happy"}
    assert dataset.images[:, 0, 0].tolist() == [0, 1, 2]
    assert dataset.left_out == {"9": 1}
    with pytest.raises(DataError, match=r"row 4: .*received '9'; --labels-map '9'=CLASS"):
        load_dataset(path)


def test_drawn_faces_become_other_classes_by_the_map():
    labels_map = ("happy=good", "surprise=good", "sad=bad", "angry=bad", "fear=", "disgust=")
    labelling = make_labelling(("good", "bad"), labels_map)
    dataset = load_dataset("synthetic:70", labelling=labelling)
    assert np.bincount(dataset.labels).tolist() == [20, 20]
    assert dataset.left_out == {"disgust": 10, "fear": 10, "neutral": 10}
    with pytest.raises(DataError, match=r"received angry, disgust, .*--labels-map NAME=CLASS"):
        load_dataset("synthetic:7", labelling=make_labelling((), ("1=good", "2=bad")))


def test_votes_are_for_emotions_alone(tmp_path):
    with pytest.raises(DataError, match="received good, for which nobody could vote"):
        load_dataset("synthetic:7", votes="v.csv", labelling=make_labelling(("good", "sad")))


def test_unseen_pictures_are_named_by_the_map_whatever_tells_their_emotion(tmp_path):
    put(tmp_path, "KA.AN1.39.png", "KA.HA2.30.png", "KA.FE1.1.png")
    labels_map = ("angry=bad", "happy=good", "fear=")
    unseen = load_layout(tmp_path, "jaffe", ("good", "bad"), labels_map)
    assert [picture.emotion for picture in unseen.pictures] == ["bad", "good"]
    assert unseen.skipped == {"fear is left out": 1}
    folders = put(tmp_path / "f", "1/a.png", "2/b.png")
    unseen = load_layout(folders, "folders", EMOTIONS, parse_labels_map("rafdb"))
    assert [picture.emotion for picture in unseen.pictures] == ["surprise", "fear"]
