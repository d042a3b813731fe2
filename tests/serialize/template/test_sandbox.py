from dataclasses import dataclass

import pytest

from st2llm.errors import ConfigError
from st2llm.serialize.template import sandbox


def body(source, *declared):
    return sandbox.compile_body(source, "mine.md", declared)


def test_text_variables_loops_and_conditions_are_rendered():
    source = "{{ place }}:{% for v in history %}{{ v }}{% if not loop.last %},{% endif %}{% endfor %}"
    assert body(source, "place", "history").render({"place": "A", "history": (1, 2)}) == "A:1,2"


def test_tags_on_their_own_line_leave_no_blank_line():
    assert body("a\n{% if place %}\nb\n{% endif %}\nc", "place").render({"place": ""}) == "a\nc"


@pytest.mark.parametrize(
    "source",
    [
        "{{ place.__class__ }}",
        "{{ place.__class__.__mro__[1].__subclasses__() }}",
        "{{ place['__class__'] }}",
        "{{ place|attr('__class__') }}",
        "{{ place.format(1) }}",
        "{{ range.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% set x = place %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%099999999999d' % 1 }}",
        "{{ place|center(9999999999) }}",
        "{{ place ~ place }}",
        "{% for x in place recursive %}{{ loop(x) }}{% endfor %}",
    ],
)
def test_a_template_that_reaches_out_or_blows_up_is_refused(source):
    with pytest.raises(ConfigError, match=r"mine\.md"):
        body(source, "place").render({"place": "A"})


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(1000000000) %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in place %}{% for b in place %}{% for c in place %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in range(15000) %}" + "long words " * 100 + "{% endfor %}",
        "{% for a in range(99999) if a > 99999 %}{% endfor %}",
        "{{ range(99999)|join }}",
        "{{ range(15000)|join(range(15000)|join) }}",
        "{% for a in range(9000) %}{{ range(9000)|join|length }}{% endfor %}",
        "{% for a in range(150) %}{{ (range(100)|join(place|upper|lower|title))|length }}{% endfor %}",
        "{{ " + "[" * 40 + "range(9000)|join" + ("|join(range(900)|join)]" * 40) + "|length }}",
        "{% for a in range(9000) %}{% if a in range(9000) %}{% endif %}{% endfor %}",
        "{{ (range(9000)|join(place))" + "|upper" * 60 + "|length }}",
    ],
)
def test_an_endless_template_ends_with_one_error(source):
    with pytest.raises(ConfigError, match=r"could not be rendered"):
        body(source, "place").render({"place": "A" * 100})


def test_joins_ranges_and_filters_of_a_usual_size_are_as_jinja_has_them():
    source = "{{ range(2, 9, 3)|join(', ') }} {{ place|join('-', attribute='real') }} {{ name|upper|trim }}"
    assert body(source, "place", "name").render({"place": [1, 2.5], "name": " a "}) == "2, 5, 8 1-2.5 A"


@pytest.mark.parametrize(
    "source",
    ["{{ place", "{% for %}", "{{ " + "(" * 500 + "place" + ")" * 500 + " }}", "{% endif %}", "{{ }}"],
)
def test_a_body_that_is_not_jinja_is_one_error(source):
    with pytest.raises(ConfigError, match=r"mine\.md"):
        body(source, "place")


def test_loops_nested_too_deeply_to_compile_are_one_error():
    deep = 40
    source = "".join(f"{{% for v{i} in place %}}" for i in range(deep)) + "{% endfor %}" * deep
    with pytest.raises(ConfigError, match=r"mine\.md"):
        body(source, "place")


def test_an_undeclared_variable_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'history'"):
        body("{{ histroy }}", "history", "place")


def test_an_unknown_filter_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'upper'"):
        body("{{ place|uper }}", "place")


def test_an_attribute_that_is_not_there_is_one_error():
    with pytest.raises(ConfigError, match="labels"):
        body("{{ place.labels }}", "place").render({"place": "A"})


def test_a_body_over_the_size_limit_is_refused():
    with pytest.raises(ConfigError, match="at most"):
        body("x" * (sandbox.MAX_BODY + 1))


def test_literals_are_the_text_and_constants_but_no_variables():
    literals = body("Sum {{ 3 }}21{{ place }}{% for v in [12, 8] %}{{ v }}{% endfor %}", "place").literals
    assert literals.startswith("Sum 321\n")
    assert literals.split()[-2:] == ["12", "8"]


@dataclass(frozen=True)
class Reading:
    label: str
    numbers: str


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ history }}", r"prints a whole list. Loop over it, as in \{% for line in history %\}"),
        ("{% for line in history %}{{ line }}{% endfor %}", "whole Reading. Print .label, .numbers of it"),
        ("{{ history | first }}", "whole Reading"),
        ("{{ history | join(', ') }}", "whole Reading"),
        ("{{ history | upper }}", "whole list"),
        ("{{ nothing }}", "whole NoneType"),
    ],
)
def test_a_list_or_an_object_is_never_printed_as_code(source, says):
    variables = {"history": (Reading("Mon", "1,2"), Reading("Tue", "3,4")), "nothing": None}
    with pytest.raises(ConfigError, match=says):
        body(source, "history", "nothing").render(variables)
