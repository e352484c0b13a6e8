"""What the emotions are called in other languages, as people name the folders of their pictures.

For each emotion its nouns and adjectives, in the forms that dictionaries of the language list and
translations of this field use. Case and accents do not matter, see `folded`. A word stands where
it means one emotion alone within its language; the same letters may mean another one in the next
(``desgosto`` and ``disgusto``), so that a language is named, never guessed.
"""

import unicodedata
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

_WORDS: Mapping[str, Mapping[str, str]] = {
    "english": {
        "angry": "anger mad furious rage",
        "disgust": "disgusted disgusting revulsion",
        "fear": "fearful afraid scared frightened terrified",
        "happy": "happiness joy joyful smile smiling",
        "sad": "sadness unhappy sorrow",
        "surprise": "surprised astonished astonishment surprize suprise suprised",
        "neutral": "neutrality calm expressionless",
        "contempt": "contemptuous disdain scorn",
    },
    "german": {
        "angry": "wut wütend wuetend ärger aerger ärgerlich aergerlich verärgert veraergert zorn "
        "zornig böse boese",
        "disgust": "ekel angeekelt angewidert abscheu",
        "fear": "angst ängstlich aengstlich furcht furchtsam verängstigt veraengstigt",
        "happy": "glücklich gluecklich glück glueck freude froh fröhlich froehlich erfreut",
        "sad": "trauer traurig traurigkeit",
        "surprise": "überraschung ueberraschung überrascht ueberrascht erstaunt erstaunen",
        "neutral": "neutralität neutralitaet ausdruckslos",
        "contempt": "verachtung verächtlich veraechtlich geringschätzung geringschaetzung",
    },
    "french": {
        "angry": "colère coléreux fâché fâchée furieux furieuse énervé énervée",
        "disgust": "dégoût dégoûté dégoûtée",
        "fear": "peur apeuré apeurée effrayé effrayée crainte",
        "happy": "joie joyeux joyeuse heureux heureuse bonheur content contente",
        "sad": "triste tristesse",
        "surprise": "surpris étonné étonnée étonnement",
        "neutral": "neutre neutralité",
        "contempt": "mépris méprisant méprisante dédain",
    },
    "spanish": {
        "angry": "enojo enojado enojada enfado enfadado enfadada ira rabia furioso furiosa",
        "disgust": "asco asqueado asqueada disgusto repugnancia",
        "fear": "miedo temor asustado asustada",
        "happy": "feliz felicidad alegría alegre contento contenta",
        "sad": "triste tristeza",
        "surprise": "sorpresa sorprendido sorprendida",
        "neutral": "neutro neutra neutralidad",
        "contempt": "desprecio despectivo despectiva desdén",
    },
    "italian": {
        "angry": "rabbia arrabbiato arrabbiata ira collera",
        "disgust": "disgusto disgustato disgustata",
        "fear": "paura impaurito impaurita spaventato spaventata timore",
        "happy": "felice felicità gioia gioioso gioiosa contento contenta",
        "sad": "triste tristezza",
        "surprise": "sorpresa sorpreso",
        "neutral": "neutro neutra neutrale neutralità",
        "contempt": "disprezzo sprezzante",
    },
    "portuguese": {
        "angry": "raiva zangado zangada irritado irritada bravo brava ira",
        "disgust": "nojo enojado enojada repugnância aversão",
        "fear": "medo amedrontado amedrontada assustado assustada",
        "happy": "feliz felicidade alegria alegre contente",
        "sad": "triste tristeza",
        "surprise": "surpresa surpreso surpreendido surpreendida",
        "neutral": "neutro neutra neutralidade",
        "contempt": "desprezo desdém",
    },
    "dutch": {
        "angry": "boos boosheid woede woedend kwaad",
        "disgust": "walging walgend afkeer afschuw",
        "fear": "angst angstig bang vrees",
        "happy": "blij blijdschap gelukkig geluk vreugde vrolijk",
        "sad": "verdriet verdrietig droevig droefheid bedroefd",
        "surprise": "verrassing verrast verbaasd verbazing",
        "neutral": "neutraal",
        "contempt": "minachting minachtend verachting",
    },
    "swedish": {
        "angry": "arg ilska ilsken vrede",
        "disgust": "avsky äckel äcklad avsmak",
        "fear": "rädsla rädd fruktan skräck",
        "happy": "glad glädje lycklig lycka",
        "sad": "ledsen sorg sorgsen ledsenhet",
        "surprise": "förvåning förvånad överraskning överraskad",
        "neutral": "neutralitet",
        "contempt": "förakt föraktfull",
    },
    "polish": {
        "angry": "złość zły zła gniew rozgniewany zdenerwowany",
        "disgust": "wstręt obrzydzenie odraza zniesmaczony",
        "fear": "strach lęk przestraszony przestraszona",
        "happy": "szczęście szczęśliwy szczęśliwa radość radosny radosna",
        "sad": "smutek smutny smutna",
        "surprise": "zaskoczenie zaskoczony zaskoczona zdziwienie zdziwiony",
        "neutral": "neutralny neutralna neutralność neutralne",
        "contempt": "pogarda pogardliwy",
    },
    "russian": {
        "angry": "злость злой злая гнев гневный ярость",
        "disgust": "отвращение",
        "fear": "страх испуг испуганный испуганная боязнь",
        "happy": "счастье счастливый счастливая радость радостный радостная",
        "sad": "грусть грустный грустная печаль печальный печальная",
        "surprise": "удивление удивлённый удивлённая",
        "neutral": "нейтральный нейтральная нейтральное нейтрально нейтральность",
        "contempt": "презрение презрительный",
    },
    "turkish": {
        "angry": "kızgın kızgınlık öfke öfkeli sinirli",
        "disgust": "iğrenme tiksinti tiksinme iğrenmiş",
        "fear": "korku korkmuş korkulu",
        "happy": "mutlu mutluluk neşeli sevinç",
        "sad": "üzgün üzüntü mutsuz",
        "surprise": "şaşkın şaşkınlık şaşırma şaşırmış sürpriz",
        "neutral": "nötr tarafsız doğal",
        "contempt": "küçümseme aşağılama",
    },
    "indonesian": {
        "angry": "marah kemarahan",
        "disgust": "jijik muak",
        "fear": "takut ketakutan",
        "happy": "bahagia senang gembira kebahagiaan",
        "sad": "sedih kesedihan",
        "surprise": "terkejut kaget",
        "neutral": "netral",
        "contempt": "menghina penghinaan",
    },
    "chinese": {
        "angry": "愤怒 憤怒 生气 生氣 怒",
        "disgust": "厌恶 厭惡 恶心 噁心 反感",
        "fear": "恐惧 恐懼 害怕 惧怕 懼怕 惊恐 驚恐",
        "happy": "高兴 高興 快乐 快樂 开心 開心 喜悦 喜悅 幸福",
        "sad": "悲伤 悲傷 伤心 傷心 难过 難過 哀伤 哀傷",
        "surprise": "惊讶 驚訝 吃惊 吃驚 惊奇 驚奇 惊喜 驚喜",
        "neutral": "中性 中立 平静 平靜 无表情 無表情 自然",
        "contempt": "轻蔑 輕蔑 蔑视 蔑視 鄙视 鄙視 轻视 輕視",
    },
    "japanese": {
        "angry": "怒り 怒る 怒 いかり",
        "disgust": "嫌悪 嫌悪感 けんお",
        "fear": "恐怖 恐れ 怖い 怖れ おそれ きょうふ",
        "happy": "喜び 幸せ 幸福 嬉しい うれしい よろこび 笑顔",
        "sad": "悲しみ 悲しい 悲 かなしみ",
        "surprise": "驚き 驚く 驚 おどろき びっくり",
        "neutral": "無表情 中立 真顔 平静 普通 ニュートラル",
        "contempt": "軽蔑 侮蔑 けいべつ",
    },
    "korean": {
        "angry": "분노 화남 화난 화",
        "disgust": "혐오 역겨움",
        "fear": "공포 두려움 무서움",
        "happy": "행복 기쁨 행복함",
        "sad": "슬픔 슬픈",
        "surprise": "놀람 놀라움 놀란",
        "neutral": "중립 무표정",
        "contempt": "경멸",
    },
    "arabic": {
        "angry": "غضب غاضب غاضبة",
        "disgust": "اشمئزاز مشمئز قرف",
        "fear": "خوف خائف خائفة",
        "happy": "سعادة سعيد سعيدة فرح",
        "sad": "حزن حزين حزينة",
        "surprise": "مفاجأة دهشة متفاجئ مندهش",
        "neutral": "محايد محايدة طبيعي",
        "contempt": "احتقار ازدراء",
    },
    "hindi": {
        "angry": "क्रोध गुस्सा क्रोधित नाराज",
        "disgust": "घृणा घिन",
        "fear": "डर भय भयभीत",
        "happy": "खुश खुशी प्रसन्न सुख",
        "sad": "दुखी दुख उदास उदासी",
        "surprise": "आश्चर्य हैरान आश्चर्यचकित",
        "neutral": "तटस्थ सामान्य",
        "contempt": "अवमानना तिरस्कार",
    },
}

LANGUAGES = tuple(_WORDS)
"""The languages whose names of the emotions are known."""

LANGUAGE_CODES: Mapping[str, str] = MappingProxyType(
    {
        **{"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian"},
        **{"pt": "portuguese", "nl": "dutch", "sv": "swedish", "pl": "polish", "ru": "russian"},
        **{"tr": "turkish", "id": "indonesian", "zh": "chinese", "ja": "japanese"},
        **{"ko": "korean", "ar": "arabic", "hi": "hindi"},
    }
)
"""The languages by their codes of ISO 639-1."""

# Letters with a stroke, and the dotless i, have no accent that could be taken off.
_STROKES = str.maketrans("ıłø", "ilo")
_FIRST_ACCENT, _LAST_ACCENT = "\u0300", "\u036f"


def folded(name: str) -> str:
    """Return a name as names are compared.

    That is without case, accents and the space around it, whichever of Unicode's ways it is
    written in; a number is without leading zeros.
    """
    lowered = unicodedata.normalize("NFKD", name.strip().casefold())
    # Only the accents of Latin, Greek and Cyrillic: elsewhere, as in Japanese, marks tell letters
    # apart.
    bare = "".join(char for char in lowered if not _FIRST_ACCENT <= char <= _LAST_ACCENT)
    plain = unicodedata.normalize("NFC", bare).translate(_STROKES)
    return (plain.lstrip("0") or "0") if plain.isascii() and plain.isdecimal() else plain


@cache
def words_of(language: str) -> Mapping[str, str]:
    """Return what emotions are called in one of `LANGUAGES`: emotion by its `folded` name.

    Raises:
        ValueError: The language is unknown.
    """
    if language not in _WORDS:
        raise ValueError(f"Expected a language of {', '.join(LANGUAGES)}, received {language!r}")
    return MappingProxyType(
        {
            folded(word): emotion
            for emotion, words in _WORDS[language].items()
            for word in words.split()
        }
    )


def languages_with(name: str) -> tuple[str, ...]:
    """Return the languages in which a name means an emotion."""
    wanted = folded(name)
    return tuple(language for language in LANGUAGES if wanted in words_of(language))
