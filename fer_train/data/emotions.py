"""The names under which the seven emotions are found in folders and tables."""

from fer_edge.contract import EMOTIONS

SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other names of the seven emotions; case does not matter."""


def emotion_of(name: str) -> str | None:
    """Return the emotion that a name means, or None."""
    lowered = name.strip().lower()
    emotion = SYNONYMS.get(lowered, lowered)
    return emotion if emotion in EMOTIONS else None
