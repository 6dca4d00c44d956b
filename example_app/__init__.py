"""The tutorial of asgi_llmobs as a running app, and the traffic that fills its pages."""
