"""Numbers of the random streams of a distillation.

Each number names one use of random numbers. Together with a seed, and where it says so a step, it
seeds the generator of that use, so that one use does not change the numbers of another.
"""

POLICY_STREAM = 1  # initial weights of students
BATCH_STREAM = 2  # states of the outer batches
NOISE_STREAM = 3  # noise on the actions of the pairs
PREPARE_STREAM = 4  # weights of the sampler of states
TRUNCATION_STREAM = 5  # windows of the inner loop, by step
SMOOTHING_STREAM = 6  # noise on the states of the data
CHECK_STREAM = 7  # students and states of the checks
DYNAMICS_STREAM = 21  # dynamics model of the data
IMAGINED_STREAM = 22  # imagined trajectories, by step
ADDED_COLUMNS_STREAM = 23  # rows that added states replace
MATCH_STREAM = 24  # inner steps whose gradients are matched, by step
