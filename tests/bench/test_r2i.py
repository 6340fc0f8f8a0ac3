from ssmrl.bench import r2i

TINY = {"groups": 2, "classes": 2, "actor_layers": 1, "critic_layers": 1, "bins": 5}


def test_an_update_is_timed_after_the_prefill_with_all_rows_learned_from(monkeypatch):
    monkeypatch.setattr(r2i, "SIZES", TINY)
    seen = []
    learning = r2i._learning

    def spied(*arguments):
        call, parameters, compile_s = learning(*arguments)

        def watched():
            seen.append(call())

        return watched, parameters, compile_s

    monkeypatch.setattr(r2i, "_learning", spied)
    (row,) = r2i.run(T=8, B=2, horizon=2, width=4, memories="gru", repetitions=1)
    assert row["x_gru"] == 1.0 and row["frames_per_s"] > 0 and row["parameters"] > 100
    assert all(float(metrics["model/loss"]) > 0 for metrics in seen)  # 0 while prefilling


def test_every_length_has_as_many_rows_in_a_batch_as_far_as_one_sequence_allows(monkeypatch):
    shapes = []

    def at_length(names, T, B, *_):
        shapes.append((T, B))
        return [{}]

    monkeypatch.setattr(r2i, "_at_length", at_length)
    r2i.run(scaling=True)
    assert [T for T, _ in shapes] == [64, 256, 1024, 4096]
    assert [T * B for T, B in shapes] == [1024, 1024, 1024, 4096]
