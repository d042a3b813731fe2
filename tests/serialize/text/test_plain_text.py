from hypothesis import given
from hypothesis import strategies as st

from st2llm.serialize.text.plain_text import plain_text


@given(st.text(max_size=40))
def test_plain_words_are_one_line_without_control_or_private_signs(text):
    words = plain_text(text)
    assert words == plain_text(words) and len(words.splitlines()) <= 1 and "\ue000" not in words
    assert words == " ".join(words.split())


def test_words_that_are_plain_stay_and_marks_go():
    assert (
        plain_text("Queen  Street\n5") == "Queen Street 5"
        and plain_text("a\ue000b\u200bc") == "abc"
        and plain_text("Ōtara") == "Ōtara"
    )
