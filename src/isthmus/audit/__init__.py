"""Is a shift real?"""
