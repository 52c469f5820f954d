"""The paper's tables and figures as data: what each number asks for. Nothing here imports torch."""
