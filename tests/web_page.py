"""Checks of an HTML page: complete, self-contained; and its text."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checker(HTMLParser):
    """Asserts that tags are closed in order, that nothing is loaded from elsewhere, and that ids are unique."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.ids, self.images = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                assert re.match(r"data:image/jpeg;base64,|#", value), (tag, name, value[:80])
            if name == "id":
                self.ids.append(value)
            if name.startswith("xlink:href") or name == "clip-path":
                assert re.search("#(.*?)[)]?$", value)
        assert tag not in ("link", "iframe", "object")
        self.images += tag == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


def read_page(path):
    """The checked page, and its text with single spaces."""
    checker = Checker()
    text = path.read_text(encoding="utf-8")
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert not re.search(r"url\((?!#)|@import", text)
    return checker, re.sub(r"\s+", " ", " ".join(checker.text)).replace("\N{NO-BREAK SPACE}", " ")
