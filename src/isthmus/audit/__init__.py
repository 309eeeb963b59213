"""Is a shift real, and what does a log cover?"""
