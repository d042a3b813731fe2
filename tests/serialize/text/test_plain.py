from hypothesis import given
from hypothesis import strategies as st

from st2llm.serialize.text.plain import plain


@given(st.text(max_size=40))
def test_plain_words_are_one_line_without_control_or_private_signs(text):
    words = plain(text)
    assert words == plain(words) and len(words.splitlines()) <= 1 and "\ue000" not in words
    assert words == " ".join(words.split())


def test_words_that_are_plain_stay_and_marks_go():
    assert (
        plain("Queen  Street\n5") == "Queen Street 5"
        and plain("a\ue000b\u200bc") == "abc"
        and plain("Ōtara") == "Ōtara"
    )
