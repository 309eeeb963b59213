"""Is a shift real, and what does a log cover?

Not called `audit`: a loaded subpackage of that name would hide the function `isthmus.audit`.
"""
