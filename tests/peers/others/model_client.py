"""Calls models with the published clients of OpenAI and Anthropic and prints what they hand their user.

    model_client.py BASE_URL
"""

import json
import sys

import anthropic
import openai

BASE = sys.argv[1]
OPENAI = openai.OpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0)
ANTHROPIC = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
ASKED = [{"role": "user", "content": "the patient is ill"}]


def note(name, value):
    """Prints one line of the transcript."""
    print(json.dumps([name, value], sort_keys=True), flush=True)


def failing(name, call):
    """Notes how a call fails."""
    try:
        call()
        note(name, "did not fail")
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        note(name, [type(error).__name__, error.status_code])


def whole():
    """Answers in one piece."""
    note("chat", OPENAI.chat.completions.create(model="gpt", messages=ASKED, temperature=0.5, seed=7).to_dict())
    note("responses", OPENAI.responses.create(model="gpt", input="the patient is ill").to_dict())
    note("embeddings", OPENAI.embeddings.create(model="emb", input="the patient is ill", encoding_format="float").to_dict())
    note("messages", ANTHROPIC.messages.create(model="claude", max_tokens=64, messages=ASKED).to_dict())


def in_events():
    """The same in events."""
    more = {"stream": True, "stream_options": {"include_usage": True}}
    note("chat", [chunk.to_dict() for chunk in OPENAI.chat.completions.create(model="gpt", messages=ASKED, **more)])
    stream = OPENAI.responses.create(model="gpt", input="the patient is ill", stream=True)
    note("responses", [event.to_dict() for event in stream])
    with ANTHROPIC.messages.stream(model="claude", max_tokens=64, messages=ASKED) as stream:
        note("messages", ["".join(stream.text_stream), stream.get_final_message().to_dict()])


whole()
in_events()
failing("chat", lambda: OPENAI.chat.completions.create(model="gpt-fails", messages=ASKED))
failing("messages", lambda: ANTHROPIC.messages.create(model="claude-fails", max_tokens=1, messages=ASKED))
