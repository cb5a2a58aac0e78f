"""What is known of llama.cpp: its models, their needs, its servers and how they die."""
