"""The one package that knows MLflow.

MLflow is a projection of the journal: `Projection` walks the events and brings the store into line, `Tracker` does so
in the background. The store may be slow, away for hours or emptied; the search does not notice, and nothing is lost,
because every event can be carried over again. `ProjectionProcess` is a projection whose work a search does not share
its interpreter with. `models` is imported by name: it loads classifiers, and with them torch. Runs are found by their
tags, times and steps come from the events, and so carrying an event over twice changes nothing.

    <name>                        experiment
      <run>                       parent; tag search_run
        trial-0000 …              one run a trial; tags search_run, trial_id, state
        retrain-seed-0 …          one run a retraining; tags search_run, retrain_seed
        L² | 15 % | seed 0 …      of a comparison, one run a training; tags search_run, row, column, seed
      <run>-search-03             of a comparison, a row's own search, with trials of its own; tags row, column
"""
