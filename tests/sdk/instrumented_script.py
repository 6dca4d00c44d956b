"""Real instrumentations of the OpenAI SDK around one and the same call, in a process of its own: they patch for good.

Arguments: the address of the fake provider, and which instrumentations, with commas. Prints what was recorded as JSON.
"""

import json
import sys

from openai import OpenAI

from asgi_llmobs import span
from asgi_llmobs.testing import capture


def instrument(name: str, provider: object) -> None:
    if name == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference

        OpenInference().instrument(tracer_provider=provider)
    elif name == "traceloop":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Traceloop

        Traceloop().instrument(tracer_provider=provider)
    elif name == "openai-v2":
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as OpenAIV2

        OpenAIV2().instrument(tracer_provider=provider)


def main(url: str, names: str, instrumented_only: bool) -> None:
    with capture(instrument="off" if instrumented_only else "auto") as found:
        for name in names.split(","):
            instrument(name, found.obs.tracer_provider)
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        messages = [{"role": "user", "content": "Say hello"}]
        with span("work", kind="agent"):
            client.chat.completions.create(model="gpt-4o-mini", messages=messages)  # type: ignore[arg-type, call-overload]
            for _ in client.chat.completions.create(  # type: ignore[call-overload]
                model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
            ):
                pass
            client.embeddings.create(model="text-embedding-3-small", input="hello")
        names_of = {record.id: record.name for record in found.spans}
        print(
            json.dumps(
                {
                    "spans": [
                        [record.name, record.kind, names_of.get(record.parent_id or "")] for record in found.spans
                    ],
                    "requests": [
                        [record.name, record.api, record.operation, record.input_tokens, record.text]
                        for record in found.requests
                    ],
                    "traces": len({record.trace_id for record in found.spans}),
                    "failures": found.obs.stats().failures,
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] == ["only"])
