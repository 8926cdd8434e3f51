"""What all makers share: text to tokens, and pairs to one `PromptSet`."""
