"""What is sent to an endpoint follows from prompt and decoding alone; whatever comes back is read or named garbage."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.errors import AlignmentError, ConfigError
from st2llm.llm.endpoint import protocol
from st2llm.types import (
    Choice,
    ChoiceSequence,
    Clock,
    Decoding,
    FreeText,
    Json,
    Numbers,
    Pair,
    Ranking,
    Scientific,
    Slot,
)

CHAT = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "12,"})
DRAWN = Decoding(draws=3, temperature=0.7, top_p=0.9)


def reply(prompt, content, messages=CHAT, grammar=Numbers(2, 2)):  # noqa: B008 - frozen
    asked = protocol.build_request(prompt("12,", grammar, messages=messages), Decoding(), "m")
    return protocol.parse_reply(
        content if isinstance(content, bytes) else json.dumps(content).encode(), asked
    )


def said(**choice):
    return {"choices": [{"index": 0, "finish_reason": "stop", **choice}]}


def test_messages_become_a_chat_completion(prompt):
    asked = protocol.build_request(prompt("", Numbers(2, 2), messages=CHAT), DRAWN, "m")
    assert asked.path == "chat/completions"
    assert asked.body == {
        "model": "m",
        "messages": list(CHAT),
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 2 * 2 * 3 + 16,
    }


def test_plain_words_become_a_completion_that_stops_at_a_line_break(prompt):
    asked = protocol.build_request(prompt("12,", Numbers(2, 2)), Decoding(), "m")
    assert asked.path == "completions"
    assert (asked.body["prompt"], asked.body["stop"], asked.body["temperature"]) == ("12,", ["\n"], 0.0)
    assert "top_p" not in asked.body


@pytest.mark.parametrize(
    "grammar",
    [
        Json('{"type": "object"}'),
        FreeText(50, answer=Numbers(1, 2)),
        Numbers(2, 2, separator="\n"),
        Ranking(("a", "b\nc"), 2),
        Choice(("a\nb",)),
        ChoiceSequence(("a", "b"), 2, "\n"),
        Scientific(2, 1, "\n"),
    ],
)
def test_an_answer_of_several_lines_does_not_stop_at_the_first(prompt, grammar):
    assert "stop" not in protocol.build_request(prompt("12,", grammar), Decoding(), "m").body


def test_a_json_schema_is_sent_and_no_other_grammar_is(prompt):
    asked = protocol.build_request(prompt("12,", Json('{"type": "object"}')), Decoding(), "m")
    schema = {"name": "answer", "schema": {"type": "object"}}
    assert asked.body["response_format"] == {"type": "json_schema", "json_schema": schema}
    for grammar in [Numbers(2, 2), Choice(("a", "b")), FreeText(), None]:
        assert "response_format" not in protocol.build_request(prompt("12,", grammar), Decoding(), "m").body


def test_what_an_endpoint_cannot_be_asked_is_refused(prompt):
    with pytest.raises(AlignmentError, match="slot 'places'"):
        protocol.build_request(prompt("12,", slots=(Slot("places", 2),)), Decoding(), "m")
    with pytest.raises(ConfigError, match="A prompt is empty"):
        protocol.build_request(prompt(""), Decoding(), "m")
    with pytest.raises(ConfigError, match="JSON schema should be JSON, but '{oops' is not"):
        protocol.build_request(prompt("12,", Json("{oops")), Decoding(), "m")


@pytest.mark.parametrize(
    ("grammar", "longest"),
    [
        (Numbers(3, 4, decimals=2, signed=True), "-1234.56,-1234.56,-1234.56"),
        (Numbers(2, 3, " , ", gap=" "), "1 2 3 , 4 5 6"),
        (Scientific(2, 2, signed=True, low=-12), "-1.23e-12,-1.23e-12"),
        (ChoiceSequence(("up", "up a lot"), 2, ", "), "up a lot, up a lot"),
        (Choice(("yes", "perhaps")), "perhaps"),
        (Choice(("東京駅",)), "東京駅"),
        (Ranking(("node-1", "node-22"), 2), "node-22, node-22"),
        (Pair(Numbers(1, 3, decimals=2), Numbers(1, 2)), "(123.45, 12)"),
        (Clock("datetime"), "2012-03-01 00:00"),
    ],
)
def test_an_answer_has_room_for_a_token_for_each_byte_twice(grammar, longest):
    assert protocol.max_tokens(grammar) >= 2 * len(longest.encode())


def test_free_text_has_room_for_its_tokens_and_then_for_an_answer():
    assert (
        protocol.max_tokens(None),
        protocol.max_tokens(FreeText(50)),
        protocol.max_tokens(Json("{}")),
    ) == (64, 50, 1024)
    assert (
        protocol.max_tokens(FreeText(50, answer=Choice(("yes",))))
        == 50 + protocol.max_tokens(Choice(("yes",))) + 2 * 7
    )


def test_a_seed_is_of_a_draw_of_a_prompt_and_of_nothing_else():
    seeds = {
        protocol.draw_seed(seed, sha256, draw) for seed in (0, 1) for sha256 in ("a", "b") for draw in (0, 1)
    }
    assert len(seeds) == 8
    assert protocol.draw_seed(3, "a", 1) == protocol.draw_seed(3, "a", 1)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_words_and_tokens_of_a_reply_are_read(prompt):
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    got = reply(prompt, {**said(message={"content": "12,13\nand more"}), "usage": usage})
    assert got == protocol.EndpointReply("12,13\nand more", "whole", 7, 3)
    assert reply(prompt, said(text="12,13"), messages=()) == protocol.EndpointReply("12,13", "whole", 0, 0)


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": None, "completion_tokens": "3"}, {"prompt_tokens": -1}]
)
def test_tokens_that_are_not_told_are_none(prompt, usage):
    got = reply(prompt, {**said(message={"content": "12"}), "usage": usage})
    assert (got.tokens_in, got.tokens_out) == (0, 0)


@pytest.mark.parametrize("finish", ["length", "max_tokens"])
def test_words_that_were_cut_are_said_to_be(prompt, finish):
    assert reply(prompt, said(message={"content": "12,"}, finish_reason=finish)).finish == "length"
    thought = reply(prompt, said(message={"content": None}, finish_reason=finish))
    assert (thought.text, thought.finish) == ("", "length")


@pytest.mark.parametrize(
    ("messages", "choice"),
    [
        (CHAT, {"message": {"content": None, "refusal": "I cannot."}}),
        (CHAT, {"message": {"content": "Some"}, "finish_reason": "content_filter"}),
        (CHAT, {"finish_reason": "content_filter"}),
        ((), {"text": "Some", "finish_reason": "content_filter"}),
    ],
)
def test_a_refusal_is_an_answer_without_words(prompt, messages, choice):
    got = reply(prompt, said(**choice), messages=messages)
    assert (got.text, got.finish) == ("", "refused")


def test_free_text_without_an_answer_line_is_its_first_line(prompt):
    words = said(message={"content": "\n  busy, I think\nbecause"})
    assert reply(prompt, words, grammar=FreeText(9)).text == "busy, I think"
    assert reply(prompt, words, grammar=None).text == "busy, I think"
    assert (
        reply(prompt, words, grammar=FreeText(9, answer=Choice(("busy",)))).text
        == "\n  busy, I think\nbecause"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>502</html>",
        b'{"choices": [{"index": 0, "mess',
        b'{"choices": []}{"choices": []}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b'"words"',
        {},
        {"error": {"message": "later"}},
        {"choices": []},
        {"choices": {}},
        {"choices": ["12"]},
        {"choices": [{}]},
        said(message=None),
        said(message={}),
        said(message={"content": None}),
        said(message={"content": 12}),
        said(message={"content": "12"}, finish_reason="abort"),
        said(text="12"),
    ],
)
def test_garbage_is_named_so(prompt, content):
    with pytest.raises(protocol.InvalidReplyError):
        reply(prompt, content)


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"choices": [text]}).encode())
)
def test_no_bytes_do_more_than_be_garbage(content):
    asked = protocol.EndpointRequest("completions", {"prompt": "1"}, "", False)
    with pytest.raises(protocol.InvalidReplyError):
        protocol.parse_reply(content, asked)


def test_half_a_surrogate_pair_is_replaced_so_that_the_answer_can_be_written(prompt):
    text = reply(prompt, b'{"choices": [{"message": {"content": "12\\ud83d"}}]}').text
    assert text.encode() == b"12?"


def test_the_words_of_an_error_are_found_and_kept_short():
    assert protocol.parse_error(b'{"error": {"message": "Too  long.", "code": "c"}}') == ("c", "Too long.")
    assert protocol.parse_error(b'{"error": {"message": null, "type": "t"}}')[0] == "t"
    assert protocol.parse_error(b'{"error": "no"}') == ("", '{"error": "no"}')
    assert protocol.parse_error(b"") == ("", "(nothing)")
    assert len(protocol.parse_error(b"x" * 5000)[1]) == 303
