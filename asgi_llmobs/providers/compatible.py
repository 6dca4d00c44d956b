"""Everyone who answers in OpenAI's formats: a table of names and hosts, and the few paths that are their own.

On these hosts the paths of :mod:`asgi_llmobs.providers.openai` hold wherever they are mounted.
"""

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.cohere import RERANK
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.openai import ROUTES
from asgi_llmobs.providers.openai_chat import CHAT, COMPLETIONS, read_chat
from asgi_llmobs.providers.openai_media import EMBEDDINGS, IMAGES, SPEECH, TRANSCRIPTION, read_embeddings
from asgi_llmobs.providers.openai_responses import RESPONSES, read_responses
from asgi_llmobs.providers.values import array, obj
from asgi_llmobs.records import Reading

__all__ = ["ANY_HOST", "PROVIDERS"]


def read_invocation(wire: Wire, reading: Reading) -> None:
    """A served model of Databricks or Hugging Face, whose task only the request's body tells."""
    body = obj(parse_json(wire.request_body))
    if any(isinstance(item, dict) for item in array(body.get("input"))):  # an agent of Databricks
        reading.api, reading.operation = RESPONSES.api, RESPONSES.operation
        return read_responses(wire, reading)
    if "input" in body:
        reading.api, reading.operation = EMBEDDINGS.api, EMBEDDINGS.operation
        return read_embeddings(wire, reading)
    if "prompt" in body:
        reading.api, reading.operation = COMPLETIONS.api, COMPLETIONS.operation
    return read_chat(wire, reading)


def read_cortex(wire: Wire, reading: Reading) -> None:
    """Snowflake's own chat, whose stream has no other end than the usage of its last event."""
    read_chat(wire, reading)
    reading.ended = reading.ended or reading.usage is not None


CORTEX = Dialect(CHAT.api, CHAT.operation, read_cortex)
INVOCATION = Dialect(CHAT.api, CHAT.operation, read_invocation)

# the paths that are a service's own, by its name
OWN_ROUTES: dict[str, tuple[Route, ...]] = {
    "cloudflare": (
        route("POST", r"/ai/run/@[^/]+/[^/]+/[^/]*(bge|embed)[^/]*$", EMBEDDINGS),
        route(
            "POST", r"/(ai/run|workers-ai)/@[^/]+/[^/]+/[^/]*(flux|diffusion|dreamshaper|lucid|phoenix)[^/]*$", IMAGES
        ),
        route("POST", r"/(ai/run|workers-ai)/@[^/]+/[^/]+/whisper[^/]*$", TRANSCRIPTION),
        route("POST", r"/(ai/run|workers-ai)/@[^/]+/[^/]+/[^/]+$", INVOCATION),
    ),
    "databricks": (route("POST", r"/serving-endpoints/[^/]+/(served-models/[^/]+/)?invocations/?$", INVOCATION),),
    "huggingface": (route("POST", r"/pipeline/feature-extraction(/|$)", EMBEDDINGS),),
    "minimax": (route("POST", r"/text/chatcompletion(_v2|_pro)?$", CHAT),),
    "nvidia": (route("POST", r"/(re)?ranking$", RERANK),),
    "portkey": (route("POST", r"/prompts/[^/]+/completions/?$", CHAT),),
    "snowflake": (
        route("POST", r"/cortex/inference[:/]complete$", CORTEX),
        route("POST", r"/cortex/inference[:/]embed$", EMBEDDINGS),
    ),
    "writer": (route("POST", r"/v1/chat/?$", CHAT),),
    "fireworks": (route("POST", r"/workflows/.+/text_to_image/?$", IMAGES),),
    "voyage": (route("POST", r"/v1/(multimodal|contextualized)embeddings$", EMBEDDINGS),),
    "elevenlabs": (
        route("POST", r"/v1/text-to-speech/", SPEECH),
        route("POST", r"/v1/speech-to-text/?$", TRANSCRIPTION),
    ),
}

# name, label, OpenTelemetry's well-known name, hosts
TABLE: tuple[tuple[str, str, str | None, tuple[str, ...]], ...] = (
    (
        "azure",
        "Azure OpenAI",
        "azure.ai.openai",
        (
            r"[\w.-]+\.openai\.azure\.(com|us|cn)",
            r"[\w.-]+\.cognitiveservices\.azure\.(com|us|cn)",
            r"[\w.-]+\.services\.ai\.azure\.(com|us|cn)",
            r"[\w.-]+\.inference\.(ai|ml)\.azure\.com",
            r"[\w.-]+\.models\.ai\.azure\.com",
            r"[\w.-]+\.openai\.azure-api\.net",
        ),
    ),
    ("openrouter", "OpenRouter", None, (r"([\w-]+\.)?openrouter\.ai",)),
    ("groq", "Groq", "groq", (r"api\.groq\.com",)),
    ("deepseek", "DeepSeek", "deepseek", (r"api\.deepseek\.com",)),
    ("xai", "xAI", "x_ai", (r"([\w-]+\.)?api\.x\.ai",)),
    ("perplexity", "Perplexity", "perplexity", (r"api\.perplexity\.ai",)),
    ("together", "Together AI", None, (r"api\.together\.(ai|xyz)",)),
    ("fireworks", "Fireworks AI", None, (r"([\w-]+\.)?api\.fireworks\.ai",)),
    ("cerebras", "Cerebras", None, (r"api\.cerebras\.ai",)),
    ("sambanova", "SambaNova", None, (r"api\.sambanova\.ai", r"[\w-]+\.snova\.ai")),
    (
        "huggingface",
        "Hugging Face",
        None,
        (
            r"router\.huggingface\.co",
            r"api-inference\.huggingface\.co",
            r"[\w.-]+\.endpoints\.huggingface\.cloud",
        ),
    ),
    ("cloudflare", "Cloudflare", None, (r"api\.cloudflare\.com", r"gateway\.ai\.cloudflare\.com")),
    (
        "databricks",
        "Databricks",
        None,
        (
            r"[\w.-]+\.azuredatabricks\.net",
            r"[\w.-]+\.databricks\.com",
            r"[\w.-]+\.databricks\.azure\.(us|cn)",
        ),
    ),
    ("snowflake", "Snowflake Cortex", None, (r"[\w.-]+\.snowflakecomputing\.(com|cn)", r"[\w.-]+\.snowflake\.app")),
    ("writer", "Writer", None, (r"api\.writer\.com",)),
    ("portkey", "Portkey", None, (r"[\w.-]+\.portkey\.ai",)),
    ("pydantic_gateway", "Pydantic AI Gateway", None, (r"gateway[\w.-]*\.pydantic\.(dev|info)",)),
    ("gpustack", "GPUStack", None, (r"([\w-]+\.)*gpustack(\.[\w.-]+)?",)),
    ("moonshot", "Moonshot AI", "moonshot_ai", (r"api\.moonshot\.(ai|cn)", r"api\.kimi\.com")),
    ("zhipu", "Zhipu AI", None, (r"open\.bigmodel\.cn", r"api\.z\.ai")),
    (
        "dashscope",
        "Alibaba Cloud Model Studio",
        None,
        (
            r"dashscope([\w-]*)\.aliyuncs\.com",
            r"[\w.-]+\.maas\.aliyuncs\.com",
        ),
    ),
    ("minimax", "MiniMax", None, (r"api\.minimax(i)?\.(chat|io|com)", r"api\.minimaxi?\.chat")),
    ("volcengine", "Volcano Engine Ark", None, (r"ark\.[\w-]+\.volces\.com", r"ark\.[\w.-]+\.bytepluses\.com")),
    ("baidu", "Baidu Qianfan", None, (r"qianfan\.baidubce\.com",)),
    ("hunyuan", "Tencent Hunyuan", None, (r"api\.hunyuan\.cloud\.tencent\.com", r"api\.lkeap\.cloud\.tencent\.com")),
    ("stepfun", "StepFun", None, (r"api\.stepfun\.(com|ai)",)),
    ("siliconflow", "SiliconFlow", None, (r"api([\w-]*)\.siliconflow\.(cn|com)",)),
    ("nvidia", "NVIDIA NIM", None, (r"([\w-]+\.)*api\.nvidia\.com", r"[\w-]+\.api\.nvcf\.nvidia\.com")),
    ("deepinfra", "DeepInfra", None, (r"api\.deepinfra\.com",)),
    ("novita", "Novita AI", None, (r"api\.novita\.ai",)),
    (
        "nebius",
        "Nebius",
        None,
        (
            r"api\.(studio|tokenfactory)\.nebius\.(ai|com)",
            r"[\w.-]+\.tokenfactory\.nebius\.com",
        ),
    ),
    ("hyperbolic", "Hyperbolic", None, (r"api\.hyperbolic\.xyz",)),
    ("lambda", "Lambda", None, (r"api\.lambda(labs)?\.(ai|com)",)),
    ("baseten", "Baseten", None, (r"inference\.baseten\.co", r"[\w-]+\.api\.baseten\.co")),
    ("runpod", "RunPod", None, (r"api\.runpod\.ai",)),
    ("anyscale", "Anyscale", None, (r"[\w.-]+\.endpoints\.anyscale\.com",)),
    ("octoai", "OctoAI", None, (r"text\.octoai\.run",)),
    ("lepton", "Lepton", None, (r"[\w-]+\.lepton\.run",)),
    ("friendli", "Friendli", None, (r"(api|inference)\.friendli\.ai",)),
    ("featherless", "Featherless", None, (r"api\.featherless\.ai",)),
    ("chutes", "Chutes", None, (r"llm\.chutes\.ai",)),
    ("parasail", "Parasail", None, (r"api\.parasail\.io",)),
    ("inference_net", "Inference.net", None, (r"api\.inference\.net",)),
    ("venice", "Venice", None, (r"api\.venice\.ai",)),
    ("ovhcloud", "OVHcloud AI Endpoints", None, (r"[\w.-]+\.endpoints\.kepler\.ai\.cloud\.ovh\.net",)),
    ("scaleway", "Scaleway", None, (r"api\.scaleway\.ai", r"[\w.-]+\.ifr\.[\w-]+\.scaleway\.com")),
    ("digitalocean", "DigitalOcean", None, (r"inference\.do-ai\.run", r"[\w.-]+\.agents\.do-ai\.run")),
    ("github", "GitHub Models", None, (r"models\.github\.ai",)),
    ("github_copilot", "GitHub Copilot", None, (r"api(\.[\w-]+)?\.githubcopilot\.com",)),
    ("vercel", "Vercel AI Gateway", None, (r"ai-gateway\.vercel\.sh", r"api\.v0\.dev")),
    ("heroku", "Heroku", None, (r"[\w-]+\.inference\.heroku\.com",)),
    ("ai21", "AI21 Labs", None, (r"api\.ai21\.com",)),
    ("aleph_alpha", "Aleph Alpha", None, (r"api\.aleph-alpha\.com", r"inference-api\.pharia\.[\w.-]+")),
    ("upstage", "Upstage", None, (r"api\.upstage\.ai",)),
    ("reka", "Reka", None, (r"api\.reka\.ai",)),
    ("inception", "Inception", None, (r"api\.inceptionlabs\.ai",)),
    ("liquid", "Liquid AI", None, (r"inference-1\.liquid\.ai",)),
    ("arcee", "Arcee", None, (r"(api|models)\.arcee\.ai",)),
    ("morph", "Morph", None, (r"api\.morphllm\.com",)),
    ("relace", "Relace", None, (r"[\w-]+\.endpoint\.relace\.run",)),
    ("llama", "Meta Llama API", None, (r"api\.llama\.com",)),
    ("voyage", "Voyage AI", None, (r"api\.voyageai\.com",)),
    ("jina", "Jina AI", None, (r"api\.jina\.ai", r"deepsearch\.jina\.ai")),
    ("nomic", "Nomic", None, (r"api-atlas\.nomic\.ai",)),
    ("helicone", "Helicone", None, (r"[\w-]+\.helicone\.ai", r"[\w-]+\.hconeai\.com")),
    ("requesty", "Requesty", None, (r"router(\.[\w-]+)?\.requesty\.ai",)),
    ("aimlapi", "AI/ML API", None, (r"api\.aimlapi\.com",)),
    ("glama", "Glama", None, (r"glama\.ai",)),
    ("unify", "Unify", None, (r"api\.unify\.ai",)),
    ("edenai", "Eden AI", None, (r"api\.edenai\.run",)),
    ("braintrust", "Braintrust", None, (r"(api|gateway)\.braintrust\.dev", r"braintrustproxy\.com")),
    ("nanogpt", "NanoGPT", None, (r"nano-gpt\.com",)),
    ("poe", "Poe", None, (r"api\.poe\.com",)),
    ("sap", "SAP AI Core", None, (r"api\.ai\.[\w.-]+\.ml\.hana\.ondemand\.com",)),
    ("gigachat", "GigaChat", None, (r"gigachat\.devices\.sberbank\.ru",)),
    ("yandex", "Yandex Cloud", None, (r"llm\.api\.cloud\.yandex\.net",)),
    ("elevenlabs", "ElevenLabs", None, (r"api(\.[\w-]+)*\.elevenlabs\.io",)),
    ("lm_studio", "LM Studio", None, (r"(localhost|127\.0\.0\.1|\[?::1\]?|host\.docker\.internal):1234",)),
)

PROVIDERS: tuple[Provider, ...] = tuple(
    Provider(name=name, label=label, otel=otel, hosts=hosts, routes=(*OWN_ROUTES.get(name, ()), *ROUTES))
    for name, label, otel, hosts in TABLE
)

ANY_HOST: tuple[Route, ...] = ()
