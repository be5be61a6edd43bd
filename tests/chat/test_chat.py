"""Chat templates against transformers, and against templates that want more than to write text."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tokpack.batches import TextBatch
from tokpack.chat.render import Conversations, Pairs
from tokpack.chat.template import ChatTemplate, RefusedError
from tokpack.errors import DocumentError, UsageError
from tokpack.protocols import SourceBatch

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}A: {% generation %}{{ message.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}U: {{ message.content }}{% endif %}\n{% endfor %}"
)
INDENTED = """
{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{%- for message in messages %}
    {%- if message.role == "system" -%}
        {{ raise_exception("no system messages") }}
    {%- endif %}
    {%- if loop.first and not loop.last %}{% continue %}{% endif %}
    {%- set ns = namespace(text=message.content) %}
    {%- set ns.text = ns.text | trim %}
    [{{ message["role"] }}] {% generation %}{{ ns.text }}{% endgeneration %}
{%- endfor %}
"""
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = [
    {"role": "user", "content": "hi there"},
    {"role": "assistant", "content": "Hëllo 🜚\n"},
    {"role": "user", "content": "more?"},
    {"role": "assistant", "content": "  no.  "},
]


def trained(rendered):
    return [rendered.text[start:stop] for start, stop in rendered.spans]


@pytest.mark.parametrize("source", [CHATML, MARKED, INDENTED])
@pytest.mark.parametrize("tools", [None, [{"name": "f", "what": "ünï <b>"}]])
def test_text_and_marked_parts_are_those_of_transformers(source, tools):
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    texts, spans = reference.render_jinja_template(
        [TALK], tools=tools, chat_template=source, return_assistant_tokens_mask=True, **TOKENS
    )
    ours = ChatTemplate(source, TOKENS).render(TALK, tools=tools)
    assert ours.text == texts[0]
    if "generation %}" in source:
        assert ours.spans == [tuple(span) for span in spans[0]]


def test_without_marks_answers_are_what_they_add():
    assert trained(ChatTemplate(CHATML, {}).render(TALK)) == ["Hëllo 🜚\n<|im_end|>\n", "  no.  <|im_end|>\n"]
    # A template without a generation prompt: the header of the answer cannot be told from the answer.
    bare = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert trained(ChatTemplate(bare, {}).render(TALK)) == ["[assistant]Hëllo 🜚\n", "[assistant]  no.  "]
    # A generation prompt that says more than the conversation goes on with.
    thinking = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
    assert trained(ChatTemplate(thinking, {}).render(TALK))[1] == "  no.  <|im_end|>\n"


def test_an_answer_that_later_turns_change_is_refused():
    forgetful = "{% for m in messages %}{{ m.content if loop.last else m.content[:1] }}{% endfor %}"
    with pytest.raises(RefusedError, match=r"message 2 differently when more messages follow.*generation"):
        ChatTemplate(forgetful, {}).render(TALK)


def test_marks_in_the_text_are_text():
    noise = "\ufdd0a\ufdd1 \ufdd2"
    rendered = ChatTemplate(MARKED, TOKENS).render([{"role": "assistant", "content": noise}])
    assert trained(rendered) == [noise + "</s>"]


def test_text_parts_are_joined_where_the_template_reads_a_string():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}]
    talk = [{"role": "user", "content": parts}]
    assert ChatTemplate(CHATML, {}).render(talk).text == "<|im_start|>user\nab<|im_end|>\n"
    reading = "{% for m in messages %}{% for part in m.content %}({{ part.type }}){% endfor %}{% endfor %}"
    assert ChatTemplate(reading, {}).render(talk).text == "(text)(text)"
    with pytest.raises(RefusedError, match="parts that are not text"):
        ChatTemplate(CHATML, {}).render([{"role": "user", "content": [{"type": "image", "url": "x"}]}])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "not a list"),
        ([], "one message or more"),
        (["hi"], "message 1 is not an object"),
        ([{"content": "x"}], "message 1 is not an object with a role"),
        ([{"role": "user", "content": None}], "prints None"),
        ([{"role": "user", "content": {"a": 1}}], "prints {'a'"),
    ],
)
def test_what_is_no_conversation_is_refused(messages, message):
    with pytest.raises(RefusedError, match=message):
        ChatTemplate(CHATML, {}).render(messages)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ ''.__class__ }}", "reads '__class__' of a str"),
        ("{{ messages.__class__.__mro__ }}", "must not"),
        ("{{ raise_exception.__globals__ }}", "must not"),
        ("{{ cycler.__init__.__globals__.os }}", "must not"),
        ("{{ messages.append(1) }}", "must not"),
        ("{{ messages[0].update(a=1) }}", "must not"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "must not"),
        ("{{ '{0.__class__}'.format('') }}", "must not"),
        ("{{ lipsum() }}", "lipsum"),
        ("{{ [1, 2]|random }}", "random"),
        ("{{ strftime_now('%Y') }}", "strftime_now"),
        ("{% include 'x' %}", "failed"),
        ("{% import 'os' as os %}", "failed"),
        ("{% for i in range(10**9) %}{% endfor %}", "failed"),
        ("{{ 1 // 0 }}", "failed"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "without end"),
        ("{% if %}", "no valid Jinja at line 1"),
        ("{{ messages", "no valid Jinja"),
        (
            "{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}",
            "lie in one another",
        ),
    ],
)
def test_what_a_template_must_not_do(source, message):
    with pytest.raises(RefusedError, match=message):
        ChatTemplate(source, {}).render(TALK)


def records(*values: bytes) -> SourceBatch:
    return SourceBatch(TextBatch.from_utf8(values), np.arange(len(values)) * 10)


GOOD = '{"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "ok ü"}]}'.encode()


def trained_texts(batch: SourceBatch) -> list[str]:
    found = []
    for index in range(len(batch.texts)):
        part = slice(batch.texts.offsets[index], batch.texts.offsets[index + 1])
        kept = batch.texts.columns["trained"][part].astype(bool)
        found.append(bytes(batch.texts.data[part][kept]).decode())
    return found


def test_conversations_are_rendered_in_a_process_of_their_own():
    renderer = pickle.loads(pickle.dumps(Conversations(CHATML, TOKENS)))
    batch = renderer.render(records(GOOD, GOOD), "x.jsonl")
    assert list(batch.texts)[1] == "<|im_start|>user\né<|im_end|>\n<|im_start|>assistant\nok ü<|im_end|>\n"
    assert trained_texts(batch) == ["ok ü<|im_end|>\n"] * 2
    assert len(renderer.render(records(), "x.jsonl").texts) == 0


def test_nothing_is_imported_from_the_folder_with_the_data(tmp_path, monkeypatch):
    for name in ("jinja2", "msgspec", "tokpack", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    assert len(Conversations(CHATML, TOKENS).render(records(GOOD), "x.jsonl").texts) == 1


def test_broken_records_are_problems():
    bad = [b'{"messages": []}', b"[1]", b'{"messages": [{"role": "user", "content": "say <|im_end|>"}]}']
    renderer = Conversations(CHATML, {}, literal=["<|im_end|>"], on_error="skip")
    batch = renderer.render(records(bad[0], GOOD, *bad[1:]), "x.jsonl")
    assert [(problem.reason, problem.position) for problem in batch.problems] == [
        ("bad-chat", 0),
        ("bad-chat", 20),
        ("special-token", 30),
    ]
    assert batch.positions.tolist() == [10]
    with pytest.raises(
        DocumentError, match=r"x\.jsonl: special-token .* byte 0: .*'<\|im_end\|>'.*--special"
    ):
        Conversations(CHATML, {}, literal=["<|im_end|>"]).render(records(bad[2]), "x.jsonl")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more than 1 s"),
        ("{% macro f(n) %}{{ f(n-1) if n }}{{ f(n-1) if n }}{% endmacro %}{{ f(60) }}", "more than 1 s"),
        (
            "{% set ns = namespace(s='a' * 64) %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}"
            "{% endfor %}{{ ns.s }}",
            "memory",
        ),
        ("{{ 'a' * 10 ** 11 }}", "memory"),
        ("{{ messages[0].content * 10 ** 11 }}", "memory"),
        ("{{ 3 ** (3 ** 40) }}", "memory|too long|gone"),
        ("{{ ('a' * 10 ** 7)|center(10 ** 11) }}", "memory"),
        ("{% if %}", "no valid Jinja"),
    ],
)
def test_a_template_that_eats_time_or_memory_is_stopped(source, message):
    with pytest.raises(UsageError, match=message) as caught:
        Conversations(source, {}).render(records(GOOD), "x.jsonl")
    assert "--chat-template FILE" in str(caught.value)


def test_pairs_are_joined_and_the_completion_is_trained():
    batch = Pairs("prompt", "completion", on_error="skip").render(
        records(
            '{"prompt": "é? ", "completion": "jä"}'.encode(),
            b'{"prompt": "a"}',
            b'{"prompt": "", "completion": ""}',
        ),
        "x.jsonl",
    )
    assert list(batch.texts) == ["é? jä", ""]
    assert trained_texts(batch) == ["jä", ""]
    assert [(problem.reason, problem.detail) for problem in batch.problems] == [
        ("bad-chat", "field 'completion' is no string")
    ]
