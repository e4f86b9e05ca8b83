"""Ways to caption a folder of photographs, each run in a process of its own."""
