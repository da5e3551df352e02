"""Runs the user's code in a process of its own, with limits.

The agent (`pool`) keeps one warm process (`zygote`) that has numpy loaded and nothing of the user's. For each run the zygote forks a
child (`child`), which gives up what it doesn't need (`limits`, `seccomp`), runs the code and answers over a socket (`wire`). What comes
from a child is checked like any input from outside: it is never unpickled.
"""
