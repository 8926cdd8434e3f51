"""From a name, a folder, a file or a Hugging Face model to a checked model whose activations have names."""
