"""One trace as each dialect of OpenTelemetry attributes tells it: an agent, a retriever, a tool and a chat call."""

import json
from collections.abc import Mapping
from typing import Any

from asgi_llmobs.semconv import Event, Told

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
TRACE = "0af7651916cd43dd8448eb211c80319c"
AGENT, FOUND, TOOL, CHAT, EMBED = (f"{number:016x}" for number in range(0xA1, 0xA6))
QUESTION, ANSWER = "What may I carry on board?", "One bag of up to 8 kg."
SYSTEM = "You answer briefly."
ARGUMENTS = {"airline": "AZ"}
DEFINITION = {
    "type": "function",
    "function": {"name": "baggage", "description": "Rules", "parameters": {"type": "object", "properties": {}}},
}
DOCUMENT = {"id": "d1", "content": "Cabin baggage", "score": 0.9}
OPENAI_MESSAGES = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": QUESTION},
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "baggage", "arguments": json.dumps(ARGUMENTS)}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "8 kg"},
]


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """A nested value as flattened attributes."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {prefix: value}
    return {name: item for key, part in pairs for name, item in flat(f"{prefix}.{key}", part).items()}


def openinference() -> dict[str, dict[str, Any]]:
    messages = [
        {"message": {"role": "system", "content": SYSTEM}},
        {"message": {"role": "user", "contents": [{"message_content": {"type": "text", "text": QUESTION}}]}},
        {
            "message": {
                "role": "assistant",
                "tool_calls": [
                    {
                        "tool_call": {
                            "id": "c1",
                            "function": {"name": "baggage", "arguments": json.dumps(ARGUMENTS)},
                        }
                    }
                ],
            }
        },
        {"message": {"role": "tool", "tool_call_id": "c1", "content": "8 kg"}},
    ]
    common = {"session.id": "s-1", "user.id": "ada", "metadata": json.dumps({"tier": "gold"})}
    return {
        AGENT: {"openinference.span.kind": "AGENT", "input.value": QUESTION, "output.value": ANSWER, **common},
        FOUND: {
            "openinference.span.kind": "RETRIEVER",
            "input.value": QUESTION,
            **flat("retrieval.documents.0.document", {**DOCUMENT, "id": "d1"}),
            **common,
        },
        TOOL: {
            "openinference.span.kind": "TOOL",
            "tool.name": "baggage",
            "input.value": json.dumps(ARGUMENTS),
            "output.value": "8 kg",
            **common,
        },
        CHAT: {
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.model_name": "gpt-4o",
            "llm.invocation_parameters": json.dumps({"model": "gpt-4o", "temperature": 0.2, "max_tokens": 50}),
            **flat("llm.input_messages", messages),
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": ANSWER,
            "llm.finish_reason": "stop",
            "llm.tools.0.tool.json_schema": json.dumps(DEFINITION),
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 20,
            "llm.token_count.prompt_details.cache_read": 64,
            "llm.token_count.completion_details.reasoning": 5,
            **common,
        },
        EMBED: {
            "openinference.span.kind": "EMBEDDING",
            "llm.provider": "openai",
            "embedding.model_name": "text-embedding-3-small",
            "embedding.embeddings.0.embedding.text": QUESTION,
            "embedding.embeddings.0.embedding.vector": (0.1, 0.2),
            "llm.token_count.prompt": 8,
            **common,
        },
    }


def parts(value: str) -> list[dict[str, Any]]:
    return [{"type": "text", "content": value}]


def gen_ai_common() -> dict[str, Any]:
    return {"gen_ai.conversation.id": "s-1", "enduser.id": "ada", "metadata": json.dumps({"tier": "gold"})}


def gen_ai_call() -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 5,
        **gen_ai_common(),
    }


def gen_ai_nodes() -> dict[str, dict[str, Any]]:
    common = gen_ai_common()
    return {
        AGENT: {
            "gen_ai.operation.name": "invoke_agent",
            "input.value": QUESTION,
            "output.value": ANSWER,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            **common,
        },
        FOUND: {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.query.text": QUESTION,
            "gen_ai.retrieval.documents": json.dumps([DOCUMENT]),
            **common,
        },
        TOOL: {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "baggage",
            "gen_ai.tool.call.arguments": json.dumps(ARGUMENTS),
            "gen_ai.tool.call.result": "8 kg",
            **common,
        },
        EMBED: {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "text-embedding-3-small",
            "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts(QUESTION)}]),
            "gen_ai.usage.input_tokens": 8,
            **common,
        },
    }


def gen_ai() -> dict[str, dict[str, Any]]:
    messages = [
        {"role": "user", "parts": parts(QUESTION)},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "baggage", "arguments": ARGUMENTS}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "8 kg"}]},
    ]
    return {
        **gen_ai_nodes(),
        CHAT: {
            **gen_ai_call(),
            "gen_ai.provider.name": "openai",
            "gen_ai.system_instructions": json.dumps(parts(SYSTEM)),
            "gen_ai.input.messages": json.dumps(messages),
            "gen_ai.output.messages": json.dumps(
                [{"role": "assistant", "parts": parts(ANSWER), "finish_reason": "stop"}]
            ),
            "gen_ai.tool.definitions": json.dumps([DEFINITION]),
        },
    }


def gen_ai_events() -> dict[str, dict[str, Any]]:
    """The older form: each message is an event of the span, see :data:`EVENTS`."""
    return {
        **gen_ai_nodes(),
        CHAT: {**gen_ai_call(), "gen_ai.system": "openai", "gen_ai.request.tools": json.dumps([DEFINITION])},
    }


EVENTS = (
    Event("gen_ai.system.message", START, {"content": SYSTEM}),
    Event("gen_ai.user.message", START, {"content": QUESTION}),
    Event("gen_ai.assistant.message", START, {"tool_calls": json.dumps(OPENAI_MESSAGES[2]["tool_calls"])}),
    Event("gen_ai.tool.message", START, {"id": "c1", "content": "8 kg"}),
    Event(
        "gen_ai.choice",
        START + SECOND,
        {"index": 0, "finish_reason": "stop", "message": json.dumps({"role": "assistant", "content": ANSWER})},
    ),
)


def traceloop() -> dict[str, dict[str, Any]]:
    common = {
        "traceloop.association.properties.session_id": "s-1",
        "traceloop.association.properties.user_id": "ada",
        "traceloop.association.properties.tier": "gold",
    }
    prompts = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "tool_calls": [{"id": "c1", "name": "baggage", "arguments": json.dumps(ARGUMENTS)}]},
        {"role": "tool", "tool_call_id": "c1", "content": "8 kg"},
    ]
    return {
        AGENT: {
            "traceloop.span.kind": "agent",
            "traceloop.entity.input": QUESTION,
            "traceloop.entity.output": ANSWER,
            **common,
        },
        FOUND: {
            "gen_ai.operation.name": "retrieval",
            "traceloop.entity.input": QUESTION,
            "traceloop.entity.output": json.dumps([DOCUMENT]),
            **common,
        },
        TOOL: {
            "traceloop.span.kind": "tool",
            "traceloop.entity.input": json.dumps(ARGUMENTS),
            "traceloop.entity.output": "8 kg",
            **common,
        },
        CHAT: {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.max_tokens": 50,
            **flat("gen_ai.prompt", prompts),
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": ANSWER,
            "gen_ai.completion.0.finish_reason": "stop",
            "llm.request.functions.0.name": "baggage",
            "llm.request.functions.0.description": "Rules",
            "llm.request.functions.0.parameters": json.dumps({"type": "object", "properties": {}}),
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "llm.usage.total_tokens": 120,
            "gen_ai.usage.cache_read_input_tokens": 64,
            "llm.usage.reasoning_tokens": 5,
            **common,
        },
        EMBED: {
            "llm.request.type": "embedding",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "text-embedding-3-small",
            "gen_ai.prompt.0.content": QUESTION,
            "gen_ai.usage.prompt_tokens": 8,
            **common,
        },
    }


def mlflow() -> dict[str, dict[str, Any]]:
    common = {
        "mlflow.trace.session": json.dumps("s-1"),
        "mlflow.trace.user": json.dumps("ada"),
        "metadata": json.dumps({"tier": "gold"}),
    }
    inputs = {
        "model": "gpt-4o",
        "temperature": 0.2,
        "max_tokens": 50,
        "messages": OPENAI_MESSAGES,
        "tools": [DEFINITION],
    }
    answer = {"role": "assistant", "content": ANSWER}
    return {
        AGENT: {
            "mlflow.spanType": '"AGENT"',
            "mlflow.spanInputs": QUESTION,
            "mlflow.spanOutputs": ANSWER,
            **common,
        },
        FOUND: {
            "mlflow.spanType": '"RETRIEVER"',
            "mlflow.spanInputs": QUESTION,
            "mlflow.spanOutputs": json.dumps([DOCUMENT]),
            **common,
        },
        TOOL: {
            "mlflow.spanType": '"TOOL"',
            "mlflow.spanInputs": json.dumps(ARGUMENTS),
            "mlflow.spanOutputs": "8 kg",
            **common,
        },
        CHAT: {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.provider": '"openai"',
            "mlflow.spanInputs": json.dumps(inputs),
            "mlflow.spanOutputs": json.dumps({"choices": [{"message": answer, "finish_reason": "stop"}]}),
            "mlflow.chat.tokenUsage": json.dumps(
                {
                    "input_tokens": 100,
                    "output_tokens": 20,
                    "total_tokens": 120,
                    "cache_read_input_tokens": 64,
                    "reasoning_tokens": 5,
                }
            ),
            **common,
        },
        EMBED: {
            "mlflow.spanType": '"EMBEDDING"',
            "mlflow.llm.provider": '"openai"',
            "mlflow.llm.model": '"text-embedding-3-small"',
            "mlflow.spanInputs": json.dumps({"input": QUESTION}),
            "mlflow.chat.tokenUsage": json.dumps({"input_tokens": 8}),
            **common,
        },
    }


def langfuse() -> dict[str, dict[str, Any]]:
    common = {
        "langfuse.session.id": "s-1",
        "langfuse.user.id": "ada",
        "langfuse.trace.metadata.tier": "gold",
        "gen_ai.provider.name": "openai",
    }
    return {
        AGENT: {
            "langfuse.observation.type": "agent",
            "langfuse.observation.input": QUESTION,
            "langfuse.observation.output": ANSWER,
            **common,
        },
        FOUND: {
            "langfuse.observation.type": "retriever",
            "langfuse.observation.input": QUESTION,
            "langfuse.observation.output": json.dumps([DOCUMENT]),
            **common,
        },
        TOOL: {
            "langfuse.observation.type": "tool",
            "langfuse.observation.input": json.dumps(ARGUMENTS),
            "langfuse.observation.output": "8 kg",
            **common,
        },
        CHAT: {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.observation.model.parameters": json.dumps({"temperature": 0.2, "max_tokens": 50}),
            "langfuse.observation.input": json.dumps({"messages": OPENAI_MESSAGES, "tools": [DEFINITION]}),
            "langfuse.observation.output": json.dumps(
                {"role": "assistant", "content": ANSWER, "finish_reason": "stop"}
            ),
            # beside each other, not inside each other
            "langfuse.observation.usage_details": json.dumps(
                {"input": 36, "input_cached_tokens": 64, "output": 20, "output_reasoning_tokens": 5}
            ),
            **common,
        },
        EMBED: {
            "langfuse.observation.type": "embedding",
            "langfuse.observation.model.name": "text-embedding-3-small",
            "langfuse.observation.input": QUESTION,
            "langfuse.observation.usage_details": json.dumps({"input": 8}),
            **common,
        },
    }


DIALECTS = {
    "gen_ai": gen_ai,
    "gen_ai events": gen_ai_events,
    "openinference": openinference,
    "traceloop": traceloop,
    "mlflow": mlflow,
    "langfuse": langfuse,
}
SHAPE = {  # id: parent, name, start and end in seconds
    AGENT: (None, "answer", 0, 9),
    FOUND: (AGENT, "search", 1, 2),
    TOOL: (AGENT, "baggage", 2, 3),
    CHAT: (AGENT, "ask", 3, 8),
    EMBED: (FOUND, "embed", 1, 2),
}


def tell(dialect: str, resource: Mapping[str, Any] | None = None) -> list[Told]:
    """The trace as *dialect* tells it, children first."""
    attributes = DIALECTS[dialect]()
    return [
        Told(
            trace_id=TRACE,
            span_id=id,
            parent_id=parent,
            name=name,
            kind=3 if id in (CHAT, EMBED) else 1,
            start_ns=START + start * SECOND,
            end_ns=START + end * SECOND,
            attributes=attributes[id],
            events=EVENTS if dialect == "gen_ai events" and id == CHAT else (),
            resource=resource,
        )
        for id, (parent, name, start, end) in reversed(SHAPE.items())
    ]
