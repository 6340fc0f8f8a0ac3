"""Programs of the tests are compiled fast rather than well; the longest tests begin first."""

import os

FAST = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
FIRST = ("test_packaging.py", "test_readme.py")  # minutes that nothing else should wait for

# XLA reads it at the first program, here and in the processes that tests start. The level of
# what the product compiles with a level of its own stays; test_packaging.py trains without.
os.environ["XLA_FLAGS"] = f"{FAST} {os.environ.get('XLA_FLAGS', '')}"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)
