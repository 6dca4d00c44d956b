"""The table: what each dialect of OpenTelemetry attributes calls the things that we have columns for.

A column is looked up in the dialects in their order; the first attribute that a span has wins. Most instrumentations
mix dialects, so none is chosen: every span is read in all of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from asgi_llmobs.providers import PROVIDERS
from asgi_llmobs.records import Kind

__all__ = ["COLUMNS", "DIALECTS", "Dialect", "PARAMETERS", "PREFIXES", "PROVIDER_NAMES", "REQUEST_KINDS"]


class Dialect(NamedTuple):
    """One set of attribute names.

    Args:
        name: What it is called.
        version: Which one was read for this table.
        kind: The attributes that say what a span is.
        kinds: What their values, in lower case, mean; others mean nothing.
        columns: The attributes of each column, the best first. One that ends in ``.*`` is a prefix: the attributes
            below it are taken together as one value.
    """

    name: str
    version: str
    kind: tuple[str, ...]
    kinds: Mapping[str, Kind]
    columns: Mapping[str, tuple[str, ...]]


OPENINFERENCE = Dialect(
    "openinference",
    "openinference-semantic-conventions 0.1.42",
    ("openinference.span.kind",),
    {
        "llm": Kind.LLM, "embedding": Kind.EMBEDDING, "chain": Kind.CHAIN, "retriever": Kind.RETRIEVER,
        "reranker": Kind.RERANKER, "tool": Kind.TOOL, "agent": Kind.AGENT, "guardrail": Kind.GUARDRAIL,
        "evaluator": Kind.EVALUATOR, "prompt": Kind.PROMPT, "unknown": Kind.SPAN, "decision": Kind.SPAN,
    },
    {
        "session_id": ("session.id",),
        "user_id": ("user.id",),
        "metadata": ("metadata", "metadata.*"),
        "tags": ("tag.tags",),
        "provider": ("llm.provider", "llm.system"),
        "request_model": (
            "llm.request.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name",
        ),
        "response_model": ("llm.response.model_name",),
        "messages": ("llm.input_messages.*", "llm.prompts.*"),
        "answers": ("llm.output_messages.*", "llm.choices.*"),
        "tools": ("llm.tools.*",),
        "parameters": ("llm.invocation_parameters", "embedding.invocation_parameters"),
        "finish_reasons": ("llm.finish_reason",),
        "input_tokens": ("llm.token_count.prompt",),
        "output_tokens": ("llm.token_count.completion",),
        "total_tokens": ("llm.token_count.total",),
        "cache_read": ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
        "cache_write": ("llm.token_count.prompt_details.cache_write",),
        "audio_input": ("llm.token_count.prompt_details.audio",),
        "audio_output": ("llm.token_count.completion_details.audio",),
        "reasoning": ("llm.token_count.completion_details.reasoning",),
        "cost": ("llm.cost.total",),
        "cost_parts": ("llm.cost.prompt", "llm.cost.completion"),
        "input": ("input.value", "reranker.query"),
        "output": ("output.value",),
        "documents": ("retrieval.documents.*", "reranker.output_documents.*"),
        "embedded": ("embedding.embeddings.*",),
        "tool_name": ("tool.name",),
        "tool_description": ("tool.description",),
        "tool_arguments": ("tool.parameters",),
        "agent": ("agent.name", "graph.node.name"),
        "prompt_id": ("prompt.id", "llm.prompt_template.version"),
    },
)  # fmt: skip

LANGFUSE = Dialect(
    "langfuse",
    "Langfuse SDK 4",
    ("langfuse.observation.type",),
    {
        "generation": Kind.LLM, "embedding": Kind.EMBEDDING, "chain": Kind.CHAIN, "retriever": Kind.RETRIEVER,
        "tool": Kind.TOOL, "agent": Kind.AGENT, "guardrail": Kind.GUARDRAIL, "evaluator": Kind.EVALUATOR,
        "span": Kind.SPAN, "event": Kind.SPAN,
    },
    {
        "session_id": ("langfuse.session.id", "langfuse.trace.session_id"),
        "user_id": ("langfuse.user.id", "langfuse.trace.user_id"),
        "metadata": (
            "langfuse.observation.metadata", "langfuse.observation.metadata.*", "langfuse.trace.metadata",
            "langfuse.trace.metadata.*",
        ),
        "tags": ("langfuse.trace.tags",),
        "request_model": ("langfuse.observation.model.name",),
        "parameters": ("langfuse.observation.model.parameters",),
        "usage": ("langfuse.observation.usage_details",),
        "costs": ("langfuse.observation.cost_details",),
        "input": ("langfuse.observation.input", "langfuse.trace.input"),
        "output": ("langfuse.observation.output", "langfuse.trace.output"),
        "first_token_at": ("langfuse.observation.completion_start_time",),
        "prompt_id": ("langfuse.observation.prompt.name",),
        "level": ("langfuse.observation.level",),
        "message": ("langfuse.observation.status_message",),
        "release": ("langfuse.release",),
    },
)  # fmt: skip

MLFLOW = Dialect(
    "mlflow",
    "MLflow 3",
    ("mlflow.spanType",),
    {
        "llm": Kind.LLM, "chat_model": Kind.LLM, "embedding": Kind.EMBEDDING, "chain": Kind.CHAIN,
        "retriever": Kind.RETRIEVER, "reranker": Kind.RERANKER, "tool": Kind.TOOL, "agent": Kind.AGENT,
        "guardrail": Kind.GUARDRAIL, "evaluator": Kind.EVALUATOR, "parser": Kind.CHAIN, "workflow": Kind.CHAIN,
        "task": Kind.SPAN, "memory": Kind.SPAN, "unknown": Kind.SPAN,
    },
    {
        "session_id": ("mlflow.trace.session",),
        "user_id": ("mlflow.trace.user",),
        "tags": ("mlflow.trace.tags",),
        "provider": ("mlflow.llm.provider",),
        "request_model": ("mlflow.llm.model",),
        "messages": ("mlflow.chat.messages",),
        "tools": ("mlflow.chat.tools",),
        "usage": ("mlflow.chat.tokenUsage",),
        "costs": ("mlflow.llm.cost",),
        "input": ("mlflow.spanInputs",),
        "output": ("mlflow.spanOutputs",),
    },
)  # fmt: skip

# litellm names its own functions
LITELLM = {
    "acompletion": Kind.LLM, "text_completion": Kind.LLM, "atext_completion": Kind.LLM, "responses": Kind.LLM,
    "aresponses": Kind.LLM, "anthropic_messages": Kind.LLM, "aembedding": Kind.EMBEDDING, "arerank": Kind.RERANKER,
}  # fmt: skip

GENAI = Dialect(
    "gen_ai",
    "semantic-conventions-genai, read with semantic-conventions 1.44; and what came before it since 1.27",
    ("gen_ai.operation.name", "gen_ai.span.kind"),
    {
        "chat": Kind.LLM, "text_completion": Kind.LLM, "generate_content": Kind.LLM, "completion": Kind.LLM,
        "embeddings": Kind.EMBEDDING, "retrieval": Kind.RETRIEVER, "rerank": Kind.RERANKER,
        "execute_tool": Kind.TOOL, "create_agent": Kind.AGENT, "invoke_agent": Kind.AGENT,
        "invoke_workflow": Kind.CHAIN, "plan": Kind.CHAIN, "fetch_response": Kind.SPAN,
        "create_memory": Kind.SPAN, "search_memory": Kind.RETRIEVER, "update_memory": Kind.SPAN,
        "upsert_memory": Kind.SPAN, "delete_memory": Kind.SPAN, "create_memory_store": Kind.SPAN,
        "delete_memory_store": Kind.SPAN, "evaluation": Kind.EVALUATOR, "guardrail": Kind.GUARDRAIL,
        "llm": Kind.LLM, "embedding": Kind.EMBEDDING, "retriever": Kind.RETRIEVER, "tool": Kind.TOOL,
        "agent": Kind.AGENT, "chain": Kind.CHAIN, "reranker": Kind.RERANKER,
        **LITELLM,
    },
    {
        "session_id": ("gen_ai.conversation.id",),
        "user_id": ("enduser.id", "gen_ai.user"),
        "provider": ("gen_ai.provider.name", "gen_ai.system"),
        "operation": ("gen_ai.operation.name",),
        "request_model": ("gen_ai.request.model",),
        "response_model": ("gen_ai.response.model",),
        "response_id": ("gen_ai.response.id",),
        "service_tier": (
            "openai.response.service_tier", "gen_ai.openai.response.service_tier", "openai.request.service_tier",
            "gen_ai.openai.request.service_tier",
        ),
        "finish_reasons": (
            "gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "gen_ai.response.stop_reason",
        ),
        "system": ("gen_ai.system_instructions",),
        "messages": ("gen_ai.input.messages", "gen_ai.prompt.*", "gen_ai.prompt"),
        "answers": ("gen_ai.output.messages", "gen_ai.completion.*", "gen_ai.completion"),
        "tools": ("gen_ai.tool.definitions", "gen_ai.request.tools"),
        "stream": ("gen_ai.request.stream", "gen_ai.is_streaming"),
        "first_token_seconds": (
            "gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token",
        ),
        "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "total_tokens": ("gen_ai.usage.total_tokens",),
        "cache_read": (
            "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cached_tokens",
            "gen_ai.usage.input_tokens.cached",
        ),
        "cache_write": (
            "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.details.cache_write_tokens",
        ),
        "reasoning": (
            "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.output_tokens.reasoning",
        ),
        "audio_input": ("gen_ai.usage.audio.input_tokens", "gen_ai.usage.details.input_audio_tokens"),
        "audio_output": ("gen_ai.usage.audio.output_tokens", "gen_ai.usage.details.output_audio_tokens"),
        "image_input": ("gen_ai.usage.image.input_tokens",),
        "image_output": ("gen_ai.usage.image.output_tokens",),
        "cost": ("gen_ai.usage.cost", "operation.cost"),
        "input": ("gen_ai.retrieval.query.text",),
        "documents": ("gen_ai.retrieval.documents",),
        "tool_name": ("gen_ai.tool.name",),
        "tool_description": ("gen_ai.tool.description",),
        "tool_arguments": ("gen_ai.tool.call.arguments",),
        "tool_result": ("gen_ai.tool.call.result",),
        "agent": ("gen_ai.agent.name", "gen_ai.workflow.name"),
        "prompt_id": ("gen_ai.prompt.name",),
        "error_type": ("error.type",),
        "status": ("http.response.status_code", "http.status_code"),
        "dimensions": ("gen_ai.embeddings.dimension.count",),
    },
)  # fmt: skip

TRACELOOP = Dialect(
    "traceloop",
    "opentelemetry-semantic-conventions-ai 0.5",
    ("traceloop.span.kind", "llm.request.type"),
    {
        "workflow": Kind.CHAIN, "task": Kind.CHAIN, "agent": Kind.AGENT, "tool": Kind.TOOL, "unknown": Kind.SPAN,
        "session": Kind.SPAN, "chat": Kind.LLM, "completion": Kind.LLM, "embedding": Kind.EMBEDDING,
        "rerank": Kind.RERANKER, **LITELLM,
    },
    {
        "session_id": (
            "traceloop.association.properties.session_id", "traceloop.association.properties.chat_id",
            "traceloop.association.properties.ls_thread_id",
        ),
        "user_id": ("traceloop.association.properties.user_id", "llm.user"),
        "metadata": ("traceloop.association.properties.*", "traceloop.association.properties"),
        "operation": ("llm.request.type",),
        "request_model": ("llm.request.model",),
        "response_model": ("llm.response.model",),
        "tools": ("llm.request.functions.*",),
        "stream": ("llm.is_streaming",),
        "total_tokens": ("llm.usage.total_tokens",),
        "cache_read": ("llm.usage.cache_read_input_tokens",),
        "cache_write": ("llm.usage.cache_creation_input_tokens",),
        "reasoning": ("llm.usage.reasoning_tokens",),
        "finish_reasons": ("llm.response.finish_reason", "llm.response.stop_reason"),
        "input": ("traceloop.entity.input",),
        "output": ("traceloop.entity.output",),
        "agent": ("traceloop.entity.name", "traceloop.workflow.name"),
        "prompt_id": ("traceloop.prompt.key",),
    },
)  # fmt: skip

DIALECTS: tuple[Dialect, ...] = (OPENINFERENCE, LANGFUSE, MLFLOW, GENAI, TRACELOOP)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    column: tuple(dict.fromkeys(name for dialect in DIALECTS for name in dialect.columns.get(column, ())))
    for column in dict.fromkeys(column for dialect in DIALECTS for column in dialect.columns)
}

# prefixes of attributes that together are one value, the longest first
PREFIXES: tuple[str, ...] = tuple(
    sorted({name[:-1] for names in COLUMNS.values() for name in names if name.endswith(".*")}, key=len, reverse=True)
)

# attributes that are one sampling parameter each
PARAMETERS: Mapping[str, str] = {
    **{
        f"gen_ai.request.{name}": name
        for name in (
            "max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "stop_sequences",
            "seed", "n", "max_completion_tokens", "repetition_penalty", "reasoning_effort", "encoding_formats",
        )
    },
    "gen_ai.request.choice.count": "n",
    "gen_ai.output.type": "output_type",
    "llm.top_k": "top_k",
    "llm.temperature": "temperature",
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
    "llm.chat.stop_sequences": "stop_sequences",
}  # fmt: skip

# what instrumentations call a provider, in lower case, to our name for it
PROVIDER_NAMES: Mapping[str, str] = {
    **{provider.name: provider.name for provider in PROVIDERS},
    **{provider.otel: provider.name for provider in PROVIDERS if provider.otel},
    "az.ai.openai": "azure",
    "azure.openai": "azure",
    "azure.ai.inference": "azure",
    "az.ai.inference": "azure",
    "azure_openai": "azure",
    "aws": "aws_bedrock",
    "aws_bedrock": "aws_bedrock",
    "bedrock": "aws_bedrock",
    "gcp.gen_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "vertex_ai": "vertexai",
    "mistralai": "mistral",
    "together_ai": "together",
    "hugging_face": "huggingface",
    "google-gla": "google",
    "google-vertex": "vertexai",
}

# what is one call of a provider; everything else is a node
REQUEST_KINDS: Mapping[Kind, str] = {Kind.LLM: "chat", Kind.EMBEDDING: "embeddings", Kind.RERANKER: "rerank"}
