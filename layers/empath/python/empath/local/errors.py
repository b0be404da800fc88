"""What can go wrong with the local stack, in words for the person who started it."""


class LocalStackError(Exception):
    """Something the local stack needs is missing or failed: what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
