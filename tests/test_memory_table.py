import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_of_memories_is_what_the_registry_and_the_results_say():
    script = runpy.run_path(str(ROOT / "scripts/memory_table.py"))
    page = (ROOT / "docs/memories.md").read_text()
    assert page == script["page"](), "run scripts/memory_table.py"
