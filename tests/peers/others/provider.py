"""A provider of models that answers by script, in the shapes of OpenAI and Anthropic.

    provider.py

It prints `LISTENING port`. The model's name says what comes: `…-fails` an error, anything else a
few words, in events where these are asked for.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPENAI_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chat(model):
    """A whole answer of chat completions."""
    message = {"role": "assistant", "content": "a few words"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": f"{model}-1", "choices": choices, "usage": OPENAI_USAGE}


def chat_events(model):
    """The same in events."""
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": f"{model}-1"}
    for word in ("a ", "few ", "words"):
        yield None, {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield None, {**head, "choices": [], "usage": OPENAI_USAGE}
    yield None, "[DONE]"


def response(model, status="completed"):
    """A whole answer of responses."""
    text = {"type": "output_text", "text": "a few words", "annotations": []}
    output = [{"id": "m-1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}]
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    }
    more = {"output": output, "usage": usage} if status == "completed" else {"output": [], "usage": None}
    fixed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None}
    return {"id": "r-1", "object": "response", "created_at": 1, "model": f"{model}-1", "status": status, **fixed, **more}


def response_events(model):
    """The same in events."""
    yield "response.created", {"type": "response.created", "sequence_number": 0, "response": response(model, "in_progress")}
    delta = {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m-1", "output_index": 0}
    yield "response.output_text.delta", {**delta, "content_index": 0, "delta": "a few words", "logprobs": []}
    yield "response.completed", {"type": "response.completed", "sequence_number": 2, "response": response(model)}


def embeddings(model):
    """The answer of embeddings."""
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
    return {"object": "list", "data": data, "model": f"{model}-1", "usage": {"prompt_tokens": 9, "total_tokens": 9}}


def message(model, **more):
    """A whole answer of messages."""
    usage = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 3}
    content = [{"type": "text", "text": "a few words"}]
    head = {"id": "m-1", "type": "message", "role": "assistant", "model": f"{model}-1", "content": content}
    return {**head, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage, **more}


def message_events(model):
    """The same in events."""
    begun = message(model, content=[], stop_reason=None)
    begun["usage"]["output_tokens"] = 1
    yield "message_start", {"type": "message_start", "message": begun}
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield "ping", {"type": "ping"}
    delta = {"type": "text_delta", "text": "a few words"}
    yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 3}}
    yield "message_stop", {"type": "message_stop"}


ANSWERS = {
    "/v1/chat/completions": (chat, chat_events),
    "/v1/responses": (response, response_events),
    "/v1/embeddings": (embeddings, None),
    "/v1/messages": (message, message_events),
}


class Provider(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answers one call."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole, events = ANSWERS[self.path]
        model = asked["model"]
        if model.endswith("-fails"):
            error = {"type": "invalid_request_error", "message": f"no: {asked}", "code": "model_not_found"}
            self.reply(404, "application/json", json.dumps({"type": "error", "error": error}).encode())
        elif asked.get("stream"):
            self.stream(events(model))
        else:
            self.reply(200, "application/json", json.dumps(whole(model)).encode())

    def head(self, status, kind):
        """The head of an answer."""
        self.send_response(status)
        self.send_header("content-type", kind)

    def reply(self, status, kind, body):
        """A whole answer."""
        self.head(status, kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events):
        """An answer in events, a chunk for each."""
        self.head(200, "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for name, data in events:
            data = data if isinstance(data, str) else json.dumps(data)
            text = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
            self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        """Says nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    print(f"LISTENING {server.server_address[1]}", flush=True)
    server.serve_forever()
