import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/world_model.py"


def test_open_loop_prediction_of_the_last_action_is_exact():
    script = runpy.run_path(str(SCRIPT))
    given = (
        "--env echo --updates 100 --every 50 --rows 5000 --length 20 --layers 1 --width 16 "
        "--groups 2 --learning-rate 5e-3"
    )
    reports = []
    _, _, right = script["experiment"](script["parser"]().parse_args(given.split()), reports.append)
    assert right == 1.0
    assert len(reports) == 3  # what it is, then a line every 50 updates
