"""Where policies live: domains (recipes for worlds), problems (two domains and a meter), collect
and play.
"""
