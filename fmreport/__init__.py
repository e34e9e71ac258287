"""Tell about results: statistics, figures, pages, the run of a whole profile, the command line."""
