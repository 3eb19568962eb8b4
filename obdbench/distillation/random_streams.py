"""Numbers of the random streams of a distillation.

Each number names one use of random numbers. Together with a seed, or with the outer step where the
comment says so, it seeds the generator of that use, so that no use changes the numbers of another.
"""

POLICY_STREAM = 1  # initial weights of students
BATCH_STREAM = 2  # states of the outer batches
NOISE_STREAM = 3  # noise on the actions of the pairs
PREPARE_STREAM = 4  # what objectives draw in prepare
TRUNCATION_STREAM = 5  # lengths of truncated inner loops, by step
SMOOTHING_STREAM = 6  # noise on the states of the data
CHECK_STREAM = 7  # students and states of the checks
DYNAMICS_STREAM = 21  # dynamics model of the data
IMAGINED_STREAM = 22  # imagined trajectories
ADDED_COLUMNS_STREAM = 23  # what objectives draw for added states
MATCH_STREAM = 24  # inner steps whose gradients are matched, by step
