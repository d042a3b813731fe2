"""Chat templates give the text that transformers gives, and a system message is never lost."""

import logging

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from st2llm.errors import ConfigError
from st2llm.llm.chat_template import render_chat

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "12?"},
    {"role": "assistant", "content": "13"},
    {"role": "user", "content": "14 é?"},
]
TURNS = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS
OMITS = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}] {{ m.content }}{% endif %}{% endfor %}"
)
FOLDED = "[user] Be brief.\n\n12?\n[assistant] 13\n[user] 14 é?\n"
TEMPLATES = {
    "plain": "{{ bos_token }}" + TURNS + "{% if add_generation_prompt %}[assistant]{% endif %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}\n    {%- generation -%} {{ m.content }}\n"
    "    {% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "tools": "{% if tools is not none %}TOOLS{% endif %}{% if documents is not none %}D{% endif %}" + TURNS,
    "json": "{{ messages | tojson(separators=(',', ':'), sort_keys=true) }}",
    "loop": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_gives_the_text_that_transformers_gives(name):
    (theirs,), _ = render_jinja_template(
        [TALK], chat_template=TEMPLATES[name], add_generation_prompt=True, **SPECIALS
    )
    assert render_chat(TEMPLATES[name], TALK, SPECIALS) == theirs


@pytest.mark.parametrize("template", [REFUSES, OMITS])
def test_without_a_system_role_the_system_message_begins_the_first_user_message(template, caplog):
    with caplog.at_level(logging.WARNING, "st2llm"):
        text = render_chat(template, TALK, SPECIALS)
        assert render_chat(template, TALK, SPECIALS) == text
    assert text.replace("\n", "") == FOLDED.replace("\n", "")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "The model's chat template has no system role"
    ]


@pytest.mark.parametrize(
    ("template", "talk", "reason"),
    [
        (
            TURNS + "{{ raise_exception('no tools') }}",
            [{"role": "tool", "content": "x"}],
            "roles tool: no tools",
        ),
        (REFUSES, TALK[:1], "roles system: no system role"),
        ("{% for m in messages %}", TALK, "Unexpected end of template"),
    ],
)
def test_a_template_that_refuses_the_messages_says_why(template, talk, reason):
    with pytest.raises(ConfigError, match=reason):
        render_chat(template, talk, SPECIALS)
