"""The texts of the pages: English in the code, and here what it is in Chinese."""

ENGLISH, CHINESE = "en", "zh"
IN_CHINESE: dict[str, str] = {}


def translate(text: str, language: str) -> str:
    return IN_CHINESE.get(text, text) if language == CHINESE else text
