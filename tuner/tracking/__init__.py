"""MLflow: the only package that imports it.

MLflow is a projection of the journal. `Projection` reads the events and writes to the store what it lacks; it picks
`SearchProjection` or `ComparisonProjection` by the first event, and both write through a `RunWriter`.
`ProjectionProcess` is a projection in a process of its own, which `tuner.record.background` advances while the search
goes on. The store may be slow, unreachable for hours or emptied: no event is lost, because every event can be written
again. Runs are found by their tags, times and steps come from the events, and so writing an event twice changes
nothing. `registry` and `replay` load classifiers, and with them torch; no other module here does.

    <name>                        experiment
      <run>                       parent; tag search_run
        trial-0000 …              one run a trial; tags search_run, trial_id, state
        retrain-seed-0 …          one run a retraining; tags search_run, retrain_seed
        L² | 15 % | seed 0 …      of a comparison, one run a training; tags search_run, row, column, seed
      <run>-search-03             of a comparison, a row's own search, with trials of its own; tags row, column
"""
