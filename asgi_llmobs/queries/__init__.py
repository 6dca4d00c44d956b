"""What the pages ask the store: each module one noun, each function one question, answered in values."""
