"""Which calls are LLM calls, who answers them, and in which dialect."""

import pytest

from asgi_llmobs.providers import PROVIDERS, Match, Provider, Wire, match, read
from asgi_llmobs.providers.base import Dialect, route
from asgi_llmobs.records import Reading

AZURE = "https://x.openai.azure.com"


@pytest.mark.parametrize(
    "host, port, path, provider, api",
    [
        ("api.openai.com", None, "/v1/chat/completions", "openai", "openai.chat"),
        ("API.OpenAI.com", 443, "/v1/chat/completions", "openai", "openai.chat"),
        ("eu.api.openai.com", None, "/v1/responses", "openai", "openai.responses"),
        ("api.openai.com", None, "/v1/responses/input_tokens", "openai", "openai.count_tokens"),
        ("api.openai.com", None, "/v1/completions", "openai", "openai.completions"),
        ("api.openai.com", None, "/v1/embeddings", "openai", "openai.embeddings"),
        ("api.openai.com", None, "/v1/images/edits", "openai", "openai.images"),
        ("api.openai.com", None, "/v1/audio/speech", "openai", "openai.speech"),
        ("api.openai.com", None, "/v1/audio/transcriptions", "openai", "openai.transcription"),
        ("api.openai.com", None, "/v1/moderations", "openai", "openai.moderations"),
        ("x.openai.azure.com", None, "/openai/deployments/d/chat/completions", "azure", "openai.chat"),
        ("x.openai.azure.com", None, "/openai/v1/responses", "azure", "openai.responses"),
        ("x.services.ai.azure.com", None, "/models/chat/completions", "azure", "openai.chat"),
        ("x.services.ai.azure.com", None, "/anthropic/v1/messages", "azure", "anthropic.messages"),
        ("x.cognitiveservices.azure.com", None, "/openai/responses", "azure", "openai.responses"),
        ("models.inference.ai.azure.com", None, "/chat/completions", "azure", "openai.chat"),
        ("openrouter.ai", None, "/api/v1/chat/completions", "openrouter", "openai.chat"),
        ("api.groq.com", None, "/openai/v1/chat/completions", "groq", "openai.chat"),
        ("api.deepseek.com", None, "/beta/completions", "deepseek", "openai.completions"),
        ("api.deepseek.com", None, "/anthropic/v1/messages", "deepseek", "anthropic.messages"),
        ("us-east-1.api.x.ai", None, "/v1/responses", "xai", "openai.responses"),
        ("api.mistral.ai", None, "/v1/fim/completions", "mistral", "openai.completions"),
        ("api.mistral.ai", None, "/v1/agents/completions", "mistral", "openai.chat"),
        ("api.perplexity.ai", None, "/chat/completions", "perplexity", "openai.chat"),
        ("router.huggingface.co", None, "/together/v1/chat/completions", "huggingface", "openai.chat"),
        ("api.cloudflare.com", None, "/client/v4/accounts/a/ai/run/@cf/meta/llama-3", "cloudflare", "openai.chat"),
        ("api.cloudflare.com", None, "/client/v4/accounts/a/ai/run/@cf/baai/bge-m3", "cloudflare", "openai.embeddings"),
        ("adb-1.2.azuredatabricks.net", None, "/serving-endpoints/m/invocations", "databricks", "openai.chat"),
        ("a.snowflakecomputing.com", None, "/api/v2/cortex/inference:complete", "snowflake", "openai.chat"),
        ("a.snowflakecomputing.com", None, "/api/v2/cortex/v1/messages", "snowflake", "anthropic.messages"),
        ("api.writer.com", None, "/v1/chat", "writer", "openai.chat"),
        ("api.portkey.ai", None, "/v1/prompts/p-1/completions", "portkey", "openai.chat"),
        ("gateway-eu.pydantic.dev", None, "/proxy/groq/chat/completions", "pydantic_gateway", "openai.chat"),
        ("gpustack.lan", None, "/v1/chat/completions", "gpustack", "openai.chat"),
        ("generativelanguage.googleapis.com", None, "/v1beta/openai/chat/completions", "google", "openai.chat"),
        ("localhost", 11434, "/v1/chat/completions", "ollama", "openai.chat"),
        ("localhost", 1234, "/v1/chat/completions", "lm_studio", "openai.chat"),
        ("localhost", 8000, "/v1/completions", "unknown", "openai.completions"),
        ("0.0.0.0", 4000, "/chat/completions", "unknown", "openai.chat"),
        ("llm.corp.example", None, "/team/a/v1/responses", "unknown", "openai.responses"),
        ("gateway.example", None, "/openai/deployments/d/embeddings", "unknown", "openai.embeddings"),
        ("0.0.0.0", 4000, "/images/generations", "unknown", "openai.images"),
        ("0.0.0.0", 4000, "/audio/transcriptions", "unknown", "openai.transcription"),
        ("0.0.0.0", 4000, "/cohere/v1/chat", "unknown", "cohere.v1.chat"),
        ("gateway.ai.cloudflare.com", None, "/v1/a/g/replicate/predictions", "cloudflare", "replicate"),
        ("api.cohere.ai", None, "/embed", "cohere", "cohere.embed"),
        ("chatgpt.com", None, "/backend-api/codex/responses", "openai", "openai.responses"),
        ("api.minimax.chat", None, "/v1/text/chatcompletion_v2", "minimax", "openai.chat"),
        ("api.voyageai.com", None, "/v1/multimodalembeddings", "voyage", "openai.embeddings"),
        ("ai.api.nvidia.com", None, "/v1/retrieval/nvidia/nv-rerank/reranking", "nvidia", "cohere.rerank"),
        (
            "router.huggingface.co",
            None,
            "/hf-inference/models/a/b/pipeline/feature-extraction",
            "huggingface",
            "openai.embeddings",
        ),
        ("api-inference.huggingface.co", None, "/models/gpt2", "huggingface", "tgi.generate"),
        ("x.us-east-1.aws.endpoints.huggingface.cloud", None, "/", "huggingface", "tgi.generate"),
        ("localhost", 8080, "/completion", "unknown", "llama_cpp.completion"),
    ],
)
def test_known_calls(host: str, port: int | None, path: str, provider: str, api: str) -> None:
    """The host says who answers, the end of the path in which format, also behind gateways and on local servers."""
    found = match("POST", host, port, path)

    assert found is not None
    assert (found.provider, found.dialect.api) == (provider, api)


@pytest.mark.parametrize(
    "method, host, path",
    [
        ("GET", "api.openai.com", "/v1/models"),
        ("POST", "api.openai.com", "/v1/files"),
        ("POST", "api.openai.com", "/v1/batches"),
        ("POST", "api.openai.com", "/v1/threads/t/runs"),
        ("POST", "api.openai.com", "/v1/vector_stores/v/search"),
        ("POST", "api.openai.com", "/v1/fine_tuning/jobs"),
        ("POST", "api.openai.com", "/v1/assistants"),
        ("POST", "api.openai.com", "/v1/realtime/client_secrets"),
        ("POST", "x.openai.azure.com", "/openai/v1/realtime/calls"),
        ("GET", "api.openai.com", "/v1/responses/resp_1"),
        ("POST", "api.openai.com", "/v1/responses/resp_1/cancel"),
        ("DELETE", "api.openai.com", "/v1/responses/resp_1"),
        ("GET", "api.openai.com", "/v1/responses/resp_1/input_items"),
        ("GET", "api.openai.com", "/v1/chat/completions"),
        ("POST", "api.mistral.ai", "/v1/ocr"),
        ("POST", "typeform.example", "/forms/f/responses"),
        ("POST", "shop.example", "/responses"),
        ("POST", "shop.example", "/courses/7/completions"),
        ("POST", "shop.example", "/v1/chat"),
        ("POST", "shop.example", "/tours/7/completion"),
        ("POST", "chatgpt.com", "/backend-api/conversation"),
        ("POST", "api.openai.com.evil.example", "/v1/threads"),
        ("GET", "api.openai.com", "/v1/videos/v"),
        ("POST", "api.openai.com", "/v1/videos/characters"),
        ("POST", "shop.example", "/v1/decisions"),
        ("HEAD", "huggingface.co", "/gpt2/resolve/main/tokenizer.json"),
    ],
)
def test_what_is_no_llm_call(method: str, host: str, path: str) -> None:
    """Management, polling and other people's APIs are not recorded."""
    assert match(method, host, None, path) is None


def read_toy(wire: Wire, reading: Reading) -> None:
    reading.text = wire.response_body.decode()


TOY = Dialect("toy", "chat", read_toy)


def test_own_provider_is_asked_first() -> None:
    """A provider that the user adds answers before ours, also on a host that we know."""
    own = Provider(name="mine", hosts=[r"api\.openai\.com"], routes=[route("POST", "/v1/chat/completions$", TOY)])

    assert match("post", "api.openai.com", None, "/v1/chat/completions", [own]) == Match("mine", TOY)
    other = match("POST", "api.openai.com", None, "/v1/embeddings", [own])
    assert other is not None
    assert other.provider == "openai"


def test_own_provider_without_routes() -> None:
    """A provider of hosts alone names who answers there; the path says how."""
    found = match("POST", "llm.corp", None, "/v1/chat/completions", [Provider(name="corp", hosts=[r"llm\.corp"])])

    assert found is not None
    assert (found.provider, found.dialect.api) == ("corp", "openai.chat")


def test_own_provider_without_hosts() -> None:
    """A provider of routes alone answers everywhere, and nothing else than its routes."""
    own = (Provider(name="toy", routes=[route("POST", "/toy$", TOY)]),)

    assert match("POST", "anywhere", None, "/toy", own) == Match("toy", TOY)
    assert match("POST", "anywhere", None, "/other", own) is None


def test_a_failing_dialect_gives_what_it_read() -> None:
    """A dialect that raises costs no more than what it had still to read."""

    def fail(wire: Wire, reading: Reading) -> None:
        reading.text = "so far"
        raise RuntimeError("a bug")

    reading = read(Wire(response_body=b"{}"), Match("toy", Dialect("toy", "chat", fail)))

    assert reading.text == "so far"
    assert reading.warnings == ["this exchange could not be read in full"]


def test_a_name_means_one_provider() -> None:
    """A name always has the same label and the same well-known name."""
    known = {provider.name: (provider.label, provider.otel) for provider in PROVIDERS}

    assert [(provider.label, provider.otel) for provider in PROVIDERS] == [known[item.name] for item in PROVIDERS]
    assert len({label for label, _ in known.values()}) == len(known)
