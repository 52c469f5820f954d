"""The recipes by name: the rows of the tables, at three scales, on any data set."""
