"""Who answers an LLM call and how it speaks."""
